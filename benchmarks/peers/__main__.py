"""The same weights through each tool, timed in one run: ``python -m benchmarks.peers --home FOLDER``.

Every tool gets the fp32 file of the trained network and the same samples. It runs in an environment of its own,
which is made below `--home` at the first run. All files of a row are timed in turn in one process, on one thread.
The results are written to ``results.json`` there; ``--page`` writes ``docs/peers.md`` from them.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.peers.duel import BATCHES, duel, ratio_of, runs_there
from benchmarks.peers.environments import DYNAMIC, NBITS, NNCF, STATIC, Peer
from benchmarks.peers.models import subject_of
from benchmarks.peers.page import page_of
from paretta.pipelines.artifact import MODEL
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.measuring.served_meter import machine
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.pipelines.runtime import runtime_of
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.plan import Plan

OURS: Final = "paretta"
PAGE: Final = Path(__file__).parents[2] / "docs" / "peers.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Args:
        network: see `models.subject_of`.
        plans: our stages, by the words that tell one plan from another.
        peers: the other tools.
        runtimes: where all files are timed.
    """

    network: str
    plans: Mapping[str, tuple[Document, ...]]
    peers: tuple[Peer, ...]
    runtimes: tuple[str, ...] = ("onnxruntime",)


_ENCODER: Final = {"bits": {"*word_embeddings": 7, "*": 8}}
ROWS: Final = {
    "int8": Row("resnet_8", {"": ({"kind": "quantize", "bits": 8},)}, (STATIC, NNCF), ("onnxruntime", "openvino")),
    "4 bit": Row(
        "mlp",
        {
            "": ({"kind": "quantize", "bits": 4, "activation_bits": 32},),
            ", packed": ({"kind": "quantize", "bits": 4, "compute": "packed", "activation_range": "dynamic"},),
        },
        (NBITS,),
    ),
    "4 bit, int8 values": Row("mlp", {"": ({"kind": "quantize", "bits": 4},)}, (NBITS,)),
    "encoder int8": Row(
        "minilm",
        {
            ", static": ({"kind": "quantize", **_ENCODER},),
            ", dynamic": ({"kind": "quantize", "activation_range": "dynamic", **_ENCODER},),
        },
        (DYNAMIC,),
    ),
}


def main() -> None:
    """Run the rows and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="where environments, data and files are kept")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--page", action="store_true", help="write docs/peers.md from the results")
    given = parser.parse_args()
    results = given.home / "results.json"
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    if not given.page:
        for name in given.rows:
            found[name] = compared(ROWS[name], given.home, name)
            results.write_text(json.dumps(found, indent=1), encoding="utf-8")
    text = page_of(found)
    print(text)
    if given.page:
        PAGE.write_text(text, encoding="utf-8")


def compared(row: Row, home: Path, name: str) -> Document:
    """Make the files of a row and compare them in each runtime."""
    subject = subject_of(row.network, home)
    task = subject.task
    folder = home / name.replace(" ", "-").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "samples.npz", **subject.samples)
    source = folder / "fp32.onnx"
    source.write_bytes(to_bytes(task.new_model(), task.example_input, task.free_axes))
    files, walls, lines = {"fp32": source}, {"fp32": 0.0}, {"fp32": 0}
    for peer in row.peers:
        path, begun = folder / f"{peer.environment}.onnx", time.perf_counter()
        peer.make(source, folder / "samples.npz", path, home)
        files[peer.title], walls[peer.title], lines[peer.title] = path, time.perf_counter() - begun, peer.user_lines
    made_for: dict[str, str] = {}
    for runtime in row.runtimes:
        runtimes = () if runtime == "onnxruntime" else (runtime,)
        for words, stages in row.plans.items():
            title, begun = f"{OURS}{words} ({runtime})", time.perf_counter()
            made = folder / f"ours-{runtime}{words.replace(', ', '-')}"
            run(Plan(stages), task, seed=0, ranks=Ranks.alone(), folder=made, runtimes=runtimes)
            files[title], walls[title] = made / MODEL, time.perf_counter() - begun
            lines[title], made_for[title] = 1 + len(stages), runtime  # the task, and each stage
    report: Document = {"network": row.network, "judged_on": subject.judged_on, "runtimes": {}, "machine": machine()}
    for runtime in row.runtimes:
        taking = {title: path for title, path in files.items() if made_for.get(title, runtime) == runtime}
        refused = {title: why for title, path in taking.items() if (why := runs_there(path, subject.test, runtime))}
        running = {title: path for title, path in taking.items() if title not in refused}
        titles = list(running)
        rounds = duel(list(running.values()), subject.test, runtime)
        table = {}
        for side, (title, path) in enumerate(running.items()):
            table[title] = {
                "bytes": path.stat().st_size,
                "quality": {name: asdict(found) for name, found in subject.judge(path, source, runtime).items()},
                "times": {str(size): asdict(ratio_of(rounds[size], side, 0)) for size in BATCHES},
                "milliseconds": {str(size): 1e3 * rounds[size].seconds(side) for size in BATCHES},
                "seconds_to_make": walls[title],
                "user_lines": lines[title],
            }
            if title in made_for:
                table[title]["over"] = {
                    other: {str(size): asdict(ratio_of(rounds[size], side, titles.index(other))) for size in BATCHES}
                    for other in titles
                    if other != "fp32" and other not in made_for
                }
        report["runtimes"][runtime] = {"version": runtime_of(runtime).version(), "files": table, "refused": refused}
    report["peers"] = {peer.title: list(peer.requirements) for peer in row.peers}
    return report


if __name__ == "__main__":
    main()
