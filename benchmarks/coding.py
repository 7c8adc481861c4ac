"""What the coded file saves against a histogram a layer and against general compressors, and where its bytes go.

``python -m benchmarks.coding [MODEL.onnx ...]``; without a file a small net is trained on digits, pruned weight by
weight to 85 % zeros and quantised to 3 bits.
"""

import lzma
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from onnx import ModelProto, numpy_helper

from paretta.pipelines.coding.container import decode_model, encode_model
from paretta.pipelines.coding.loose import loosened
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.pipelines.tasks.digits import make
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.plan import Plan


def histogram_bytes(model: bytes) -> float:
    """Return the entropy of every matrix of integer codes under a histogram of its own that costs nothing."""
    total = 0.0
    for item in loosened(ModelProto.FromString(model)).graph.initializer:
        codes = numpy_helper.to_array(item)
        if codes.ndim > 1 and codes.dtype.itemsize == 1:
            _, counts = np.unique(codes, return_counts=True)
            total -= float((counts * np.log2(counts / counts.sum())).sum()) / 8
    return total


def trained(folder: Path) -> Path:
    train: Document = {"kind": "train", "epochs": 20, "lr": 0.01, "batch_size": 64}
    short: Document = {**train, "epochs": 10, "lr": 0.003}
    stages: tuple[Document, ...] = (
        {"kind": "sparsify", "sparsity": 0.6},
        short,
        {"kind": "sparsify", "sparsity": 0.85},
        short,
        {"kind": "quantize", "bits": 3},
        short,
    )
    return run(Plan((train,), stages), make(), seed=0, ranks=Ranks.alone(), folder=folder).folder / "model.onnx"


def report(path: Path) -> None:
    model = path.read_bytes()
    begun = time.process_time()
    coded = encode_model(model)
    packed = time.process_time()
    assert decode_model(coded.content) == model
    unpacked = time.process_time()
    parts = "  ".join(f"{part} {size:.0f}" for part, size in coded.parts.items())
    print(
        f"{path.name}: {len(model)} B, coded {len(coded.content)} B ({len(model) / len(coded.content):.2f}x)  {parts}"
    )
    if "codes" in coded.parts:
        codes, histogram = coded.parts["codes"], histogram_bytes(model)
        print(f"  codes against a free histogram a layer: {codes:.0f} / {histogram:.0f} B = {codes / histogram:.3f}")
    others = {
        "zlib -9": len(zlib.compress(model, 9)),
        "xz -9e": len(lzma.compress(model, preset=9 | lzma.PRESET_EXTREME)),
    }
    print("  " + "  ".join(f"{name} {size} B" for name, size in others.items()))
    print(f"  CPU: pack {packed - begun:.2f} s, unpack {unpacked - packed:.2f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        for name in sys.argv[1:]:
            report(Path(name))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            report(trained(Path(scratch) / "made"))
