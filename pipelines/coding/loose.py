"""Convert a delivered model's packed integers to plain tensors, for coding."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

Makers = Mapping[str, NodeProto]


def loosened(model: ModelProto) -> ModelProto:
    """Return `model` with plain tensors instead of the nodes that unpack the integers of its quantised layers.

    `paretta.pipelines.export.graph_passes.tighten` is the inverse for a model that it made.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    values = _evaluated(model, _unpacked(model, makers))
    needed = _ancestors(makers, (item.name for item in model.graph.output), stop=values) - set(values)
    places = {_first_stored(model, makers, name): name for name in values}
    loose = ModelProto()
    loose.CopyFrom(model)
    del loose.graph.node[:]
    loose.graph.node.extend(node for node in model.graph.node if needed.intersection(node.output))
    del loose.graph.initializer[:]
    for item in model.graph.initializer:
        if item.name in places:
            loose.graph.initializer.append(numpy_helper.from_array(values[places[item.name]], places[item.name]))
        elif item.name in needed:
            loose.graph.initializer.append(item)
    return loose


def _unpacked(model: ModelProto, makers: Makers) -> list[str]:
    """Return the codes, indices and zero points that nodes compute from stored tensors only."""
    constants = {item.name for item in model.graph.initializer} | {""}
    for node in model.graph.node:
        if all(name in constants for name in node.input):
            constants.update(node.output)
    read = [name for node in model.graph.node for name in _integers_read(node) if name in makers and name in constants]
    inner = _ancestors(makers, (source for name in read for source in makers[name].input))
    return [name for name in dict.fromkeys(read) if name not in inner]


def _integers_read(node: NodeProto) -> Iterator[str]:
    """Yield the integers that `node` converts to floats, looks up, or uses as indices."""
    if node.op_type == "DequantizeLinear":
        yield from (node.input[0], *node.input[2:])
    if node.op_type == "Gather":
        yield node.input[0]
    if node.op_type == "Cast" and node.attribute[0].i in (TensorProto.FLOAT, TensorProto.INT32):
        yield node.input[0]


def _evaluated(model: ModelProto, names: list[str]) -> dict[str, NDArray[np.generic]]:
    """Return the values of tensors that do not depend on the input."""
    if not names:
        return {}
    makers = {name: node for node in model.graph.node for name in node.output}
    needed = _ancestors(makers, names)
    part = ModelProto()
    part.CopyFrom(model)
    for field in (part.graph.node, part.graph.input, part.graph.output):
        del field[:]
    part.graph.node.extend(node for node in model.graph.node if needed.intersection(node.output))
    part.graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys(names))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # it would warn about every stored tensor that this subgraph does not use
    session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip((item.name for item in part.graph.output), session.run(None, {}), strict=True))


def _ancestors(makers: Makers, names: Iterable[str], stop: Iterable[str] = ()) -> set[str]:
    """Return `names` and all tensors that they are computed from, without looking beyond those in `stop`."""
    found, left, closed = set[str](), list(names), set(stop)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            if name in makers and name not in closed:
                left += makers[name].input
    return found


def _first_stored(model: ModelProto, makers: Makers, name: str) -> str:
    stored: str
    sources = _ancestors(makers, [name])
    return next(stored for item in model.graph.initializer if (stored := item.name) in sources)
