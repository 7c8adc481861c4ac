"""Find the kernels that ONNX Runtime runs for a model, and the share of integer work."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from paretta.pipelines.kernels.mac_count import CONVOLUTIONS, UNCOUNTED, macs_of, rounds_blocks
from paretta.search_spaces.canonical import digest

Shapes: TypeAlias = "list[dict[str, list[int]]]"

INTEGER = (
    "QLinearConv",
    "ConvInteger",
    "QGemm",
    "QLinearMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
)
_PACKED = "MatMulNBits"
_RECURRENT = ("GRU", "LSTM", "RNN", "DynamicQuantizeLSTM")
_PRODUCTS = ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulNBits", *INTEGER)
_COUNTED = {*CONVOLUTIONS, *_PRODUCTS, *_RECURRENT, "ConvTranspose"}
_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True, slots=True)
class KernelCounts:
    """The kernels of one inference.

    Args:
        kernels: how often each operator of the optimised graph ran.
        macs: multiply-accumulates of convolutions, transposed convolutions, matrix products and recurrent layers, for a
            batch of one.
        integer_macs: those computed by QLinearConv, QGemm and other integer kernels.
        weights: number of weights in them.
        integer_weights: number of weights that are integers.
    """

    kernels: Mapping[str, int]
    macs: int
    integer_macs: int
    weights: int
    integer_weights: int

    @property
    def integer_layers(self) -> int:
        """The number of convolutions and products that ran in integers."""
        return sum(self.kernels.get(name, 0) for name in INTEGER)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """The kernels that multiply and accumulate but are not counted here."""
        return tuple(sorted(UNCOUNTED & set(self.kernels)))

    def details(self) -> dict[str, float | int | str]:
        """Return the details for a reading; shares are between 0 and 1."""
        return {
            "qlinear_conv": self.kernels.get("QLinearConv", 0),
            "qgemm": self.kernels.get("QGemm", 0),
            "macs": self.macs,
            "integer_macs_share": self.integer_macs / self.macs if self.macs else 0.0,
            "integer_weights_share": self.integer_weights / self.weights if self.weights else 0.0,
            **({"not_counted": ", ".join(self.uncounted)} if self.uncounted else {}),
        }


def integer_kernels(model_path: Path) -> KernelCounts:
    """Run the model once on zeros with ONNX Runtime's profiler and count the kernels that ran.

    Operators are fused as in production, but the blocked memory layout of float convolutions is disabled: it pads
    channels to the machine's register width, so the counts would depend on the machine.
    """
    with tempfile.TemporaryDirectory() as folder:
        events = list(_profile(model_path, Path(folder)))
    packed = [node for node in onnx.load(model_path, load_external_data=False).graph.node if node.op_type == _PACKED]
    integer = {*INTEGER, *([_PACKED] if all(map(rounds_blocks, packed)) else [])}  # a profile does not tell them apart
    layers = [(name, *_work(name, inputs, outputs)) for name, inputs, outputs in events if name in _COUNTED]
    return KernelCounts(
        kernels=dict(sorted(Counter(name for name, _, _ in events).items())),
        macs=sum(macs for _, macs, _ in layers),
        integer_macs=sum(macs for name, macs, _ in layers if name in integer),
        weights=sum(weights for _, _, weights in layers),
        integer_weights=sum(weights for name, _, weights in layers if name in integer),
    )


def kernels_digest(model_path: Path) -> str:
    """Return a digest of one inference: models with equal digests run the same kernels on the same shapes.

    The widths of stored weights are not included, since ONNX Runtime unpacks them when it loads the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        return digest(list(_profile(model_path, Path(folder))))


def _profile(model_path: Path, folder: Path) -> Iterator[tuple[str, Shapes, Shapes]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    # Prepacked weights would be missing from the profile's shapes.
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])
    zeros: dict[str, NDArray[np.generic]] = {
        item.name: np.zeros(_one_sample(item.shape), _TYPES[item.type]) for item in session.get_inputs()
    }
    session.run(None, zeros)
    for event in json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            arguments = event["args"]
            yield arguments["op_name"], arguments["input_type_shape"], arguments["output_type_shape"]


def _one_sample(shape: list[int | str | None]) -> list[int]:
    return [size if isinstance(size, int) else 1 for size in shape]


def _work(name: str, inputs: Shapes, outputs: Shapes) -> tuple[int, int]:
    """Return multiply-accumulates and weights of one layer from the shapes it ran with."""
    sizes = [next(iter(item.values())) for item in inputs]
    values, *rest = [size for size in sizes if len(size) >= 2]
    if name in _RECURRENT:  # [steps, batch, features], and the weights of each step's inputs and states
        weights = sum(prod(size) for size in rest[:2])
        return values[0] * values[1] * weights, weights
    if name == "MatMulNBits":  # its weight is packed into bytes
        result = next(iter(outputs[0].values()))
        return prod(result) * values[-1], result[-1] * values[-1]
    weight = rest[0] if rest else []
    return macs_of(name, values, weight, next(iter(outputs[0].values()))), prod(weight)
