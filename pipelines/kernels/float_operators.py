"""What ONNX Runtime still computes in floats between two layers that run in integers."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from onnx import GraphProto, NodeProto, TensorProto

from paretta.pipelines.kernels.layer_kernels import optimised_graph
from paretta.pipelines.kernels.ort_kernels import INTEGER

_CONVERSIONS: Final = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
# these move values and compute nothing
_MOVES: Final = frozenset(
    {
        "Cast",
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
_QGEMM_INPUTS: Final = 9  # with fewer it returns floats


def floats_between(content: bytes) -> Counter[str]:
    """Count the operators that compute in floats on a way from one integer layer to another, in the optimised graph.

    Conversions between integers and floats, and what only moves values, are left out.

    Args:
        content: a serialised ONNX model.
    """
    return _between(optimised_graph(content))


def _between(graph: GraphProto) -> Counter[str]:
    integers = {item.name for item in graph.initializer if not _is_float(item.data_type)}
    after: set[str] = set()  # tensors with values from an integer layer
    inner: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "Shape":
            continue
        given = [name for name in node.input if name]
        if _is_integer(node, integers):
            integers.update(node.output)
        if node.op_type in INTEGER or after.intersection(given):
            after.update(node.output)
            inner.append(node)
    before: set[str] = set()  # tensors that an integer layer reads, if not directly
    found: Counter[str] = Counter()
    for node in reversed(inner):
        if node.op_type in INTEGER:
            before.update(node.input)
        elif before.intersection(node.output):
            before.update(node.input)
            if _computes(node) and after.intersection(node.input) and not _is_integer(node, integers):
                found[node.op_type] += 1
    return found


def _computes(node: NodeProto) -> bool:
    passes = node.op_type == "Sum" and len(node.input) == 1  # put there at export, see `graph_passes`
    return node.op_type not in _CONVERSIONS and node.op_type not in _MOVES and not passes


def _is_integer(node: NodeProto, integers: set[str]) -> bool:
    """Return True if the node returns integers: a quantiser, an integer kernel, or what passes integers on."""
    if node.op_type == "QGemm":
        return len([name for name in node.input if name]) >= _QGEMM_INPUTS
    if node.op_type in {"DequantizeLinear", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}:
        return False
    if node.op_type == "Cast":
        return not any(_is_float(attribute.i) for attribute in node.attribute if attribute.name == "to")
    known = node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear") or node.op_type in INTEGER
    return known or (bool(node.input) and node.input[0] in integers)


def _is_float(data_type: int) -> bool:
    return data_type in {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}


def words_of(operators: Mapping[str, int]) -> str:
    """Say them in a few words, the most frequent first.

    >>> words_of({"Softmax": 2, "Gelu": 1})
    '2 Softmax, 1 Gelu'
    """
    return ", ".join(
        f"{count} {name}" for name, count in sorted(operators.items(), key=lambda item: (-item[1], item[0]))
    )
