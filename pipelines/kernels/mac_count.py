"""Count the multiply-accumulates of an exported graph by layer, with the bit widths of their operands."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from paretta.pipelines.artifact import MODEL, layers_in_floats
from paretta.pipelines.data.feeds import Feeds, feed_batch
from paretta.pipelines.meter import Meter, MeterBench
from paretta.search_spaces.objectives.reading import Detail, Reading

Tensors: TypeAlias = Mapping[str, NDArray[np.generic]]

# positions of values and weights among a node's inputs
_INPUTS = {
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "ConvInteger": (0, 1),
    "QLinearConv": (0, 3),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "MatMulNBits": (0, 1),
    "QLinearMatMul": (0, 3),
}
CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv", "FusedConv", "NhwcFusedConv")
# these operators also multiply and accumulate, but are not counted here
UNCOUNTED = {"Attention", "DeformConv", "Einsum", "MultiHeadAttention", "QAttention"}
_RECURRENT = {"GRU", "LSTM", "RNN"}
_SINGLE_SAMPLE = 1


@dataclass(frozen=True, slots=True)
class LayerWork:
    """The work of one convolution or matrix product of the graph for one sample.

    Args:
        operator: of the node, such as ``Conv``.
        macs: multiply-accumulates.
        value_bits: width of the input values; 32 for floats.
        weight_bits: width of the weights as delivered: the narrowest two's complement that holds them; 32 for floats.
        is_integer: True if both are integers.
    """

    operator: str
    macs: int
    value_bits: int
    weight_bits: int
    is_integer: bool

    @property
    def bops(self) -> int:
        """Bit operations, ``MACs x weight bits x value bits`` (Baskin et al., 2021, UNIQ)."""
        return self.macs * self.value_bits * self.weight_bits


class Uncountable(Exception):
    """The graph has work that cannot be derived from its layers; the message says which."""


def layer_work(model_path: Path, inputs: Feeds) -> tuple[LayerWork, ...]:
    """Return the work of each layer, in graph order.

    Shapes and weights are those that ONNX Runtime computes with for the first of `inputs`; what only unpacks
    constants while the file is loaded is no work.

    Raises:
        Uncountable: the graph branches, or has operators that are not counted.
    """
    model = onnx.load(model_path)
    _refuse_what_is_not_counted(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    layers = list(_computing_layers(model))
    sources = [[_source(makers, name) for name in _operands(node)] for node in layers]
    wanted = {name for pair in sources for name in pair}
    wanted |= {name for node in layers for name in (*_operands(node), node.output[0])}
    tensors = _run(model, wanted, feed_batch(inputs, _SINGLE_SAMPLE))
    constants = _constants(model)
    return tuple(
        LayerWork(
            operator=node.op_type,
            macs=_macs(node, tensors),
            value_bits=8 if rounds_blocks(node) else _bits(tensors[value], constant=False),
            weight_bits=packed_bits(node) or _bits(tensors[weight], constant=weight in constants),
            is_integer=rounds_blocks(node)
            or all(np.issubdtype(tensors[name].dtype, np.integer) for name in (value, weight)),
        )
        for node, (value, weight) in zip(layers, sources, strict=True)
    )


class WorkMeter(Meter, ABC):
    """Counts the work of one sample on the exported graph: exact, no interval."""

    unchecked: ClassVar[str] = "it follows from the file, which the manifest holds"

    goal: Literal["min"] = "min"

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the count, or why there is none."""
        try:
            layers = layer_work(artifact / MODEL, bench.inputs)
        except Uncountable as error:
            return Reading.not_measured(self.unit, str(error))
        return Reading(
            float(self.count(layers)), self.unit, details={**self.told(layers), **layers_in_floats(artifact)}
        )

    @abstractmethod
    def count(self, layers: Sequence[LayerWork]) -> int:
        """Return the total."""

    @abstractmethod
    def told(self, layers: Sequence[LayerWork]) -> dict[str, Detail]:
        """Return the details of the reading."""


def macs_of(operator: str, values: Sequence[int], weight: Sequence[int], output: Sequence[int]) -> int:
    """Return the multiply-accumulates of a convolution or matrix product from the shapes that it runs with.

    ``outputs x inputs of each output``; the last dimension of `values` of a product is the one summed over.

    >>> macs_of("Conv", [1, 4, 6, 6], [12, 2, 3, 3], [1, 12, 4, 4]), macs_of("Gemm", [1, 20], [5, 20], [1, 5])
    (3456, 100)
    """
    if operator == "ConvTranspose":
        return prod(values) * prod(weight[1:])
    return prod(output) * (prod(weight[1:]) if operator in CONVOLUTIONS else values[-1])


def packed_bits(node: onnx.NodeProto) -> int | None:
    """Return the bits of the packed weight that a MatMulNBits multiplies with; None of other operators."""
    stated = [attribute.i for attribute in node.attribute if attribute.name == "bits"]
    return int(stated[0]) if node.op_type == "MatMulNBits" and stated else None


def rounds_blocks(node: onnx.NodeProto) -> bool:
    """Return True of a MatMulNBits that rounds what it reads to int8 block by block, and multiplies integers."""
    return node.op_type == "MatMulNBits" and any(a.name == "accuracy_level" and a.i == 4 for a in node.attribute)


def _refuse_what_is_not_counted(model: onnx.ModelProto) -> None:
    operators = {node.op_type for node in model.graph.node}
    if found := operators & (UNCOUNTED | _RECURRENT):
        raise Uncountable(f"the work of {', '.join(sorted(found))} is not counted")
    if any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        raise Uncountable("the graph has branches or loops, whose work depends on the input")


def _constants(model: onnx.ModelProto) -> set[str]:
    """Return the names of all tensors that do not depend on the input; nodes are in order of evaluation."""
    known = {item.name for item in model.graph.initializer} | {""}
    for node in model.graph.node:
        if all(name in known for name in node.input):
            known |= set(node.output)
    return known


def _computing_layers(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    constants = _constants(model)
    return (node for node in model.graph.node if node.op_type in _INPUTS and node.output[0] not in constants)


def _operands(node: onnx.NodeProto) -> tuple[str, str]:
    values, weights = _INPUTS[node.op_type]
    return node.input[values], node.input[weights]


def _source(makers: Mapping[str, onnx.NodeProto], name: str) -> str:
    """Return the integer tensor behind a DequantizeLinear, or the tensor itself."""
    maker = makers.get(name)
    return maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else name


def _run(model: onnx.ModelProto, names: set[str], sample: Feeds) -> Tensors:
    """Return the named tensors [1, ...] of one inference without any fusion."""
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer if item.name in names}
    feed = dict(sample)
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    outputs = sorted(names - set(stored) - set(feed))
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {**stored, **feed, **dict(zip(outputs, session.run(outputs, feed), strict=True))}


def _macs(node: onnx.NodeProto, tensors: Tensors) -> int:
    values, weights = (tensors[name].shape for name in _operands(node))
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return macs_of(node.op_type, values[::-1] if transposed else values, weights, tensors[node.output[0]].shape)


def _bits(tensor: NDArray[np.generic], *, constant: bool) -> int:
    if not np.issubdtype(tensor.dtype, np.integer) or not constant:
        return tensor.dtype.itemsize * 8
    low, high = int(tensor.min(initial=0)), int(tensor.max(initial=0))
    signed = np.issubdtype(tensor.dtype, np.signedinteger)
    return max(-low - 1, high, 0).bit_length() + int(signed)
