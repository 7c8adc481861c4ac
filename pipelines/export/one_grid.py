"""Leave one quantiser for each tensor of an ONNX graph, and remove float operations that a grid makes redundant."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

Values: TypeAlias = Mapping[str, NDArray[np.generic]]
_SLACK = 1 + 1e-6  # relative tolerance between a bound and a grid's last step


def unite_grids(model: ModelProto) -> None:
    """Quantise every tensor once and let all nodes read the same integers, in place; outputs stay bitwise equal.

    A second quantiser with the same grid is replaced by the first, likewise one by the range of the same values, and a
    quantiser of values that are already on its grid is removed. An activation that the preceding grid makes redundant
    is removed too: a ReLU of codes with zero point 0, or a clip at 6 if no code exceeds it. A mean over an image
    becomes a pool, which has an integer kernel, and a change from one grid to another gets one too.
    """
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    while _united(model, values) or _keep_codes(model):
        pass
    _share_own_grids(model)
    _pool_averages(model, values)
    _change_grids(model, values)


def _united(model: ModelProto, values: Values) -> bool:
    makers = {name: node for node in model.graph.node for name in node.output}
    outputs = {item.name for item in model.graph.output}
    first: dict[tuple[object, ...], str] = {}
    instead: dict[str, str] = {}
    rules: dict[str, Callable[[NodeProto, Mapping[str, NodeProto], Values], str | None]] = {
        "QuantizeLinear": _same_codes,
        "Relu": _needless,
        "Clip": _needless,
    }
    for node in list(model.graph.node):
        if node.output[0] in outputs or node.domain:
            continue
        found = rules[node.op_type](node, makers, values) if node.op_type in rules else None
        if found is None and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            earlier = first.setdefault((node.op_type, node.input[0], *_grid(node, values)), node.output[0])
            found = None if earlier == node.output[0] else earlier
        if found is not None:
            instead[node.output[0]] = found
            model.graph.node.remove(node)
    for node in model.graph.node:
        node.input[:] = [_last(instead, name) for name in node.input]
    return bool(instead)


def _share_own_grids(model: ModelProto) -> None:
    first: dict[str, NodeProto] = {}
    instead: dict[str, str] = {}
    for node in list(model.graph.node):
        if node.op_type == "DynamicQuantizeLinear":
            earlier = first.setdefault(node.input[0], node)
            if earlier.output[0] != node.output[0]:
                instead.update(zip(node.output, earlier.output, strict=True))
                model.graph.node.remove(node)
    for node in model.graph.node:
        node.input[:] = [instead.get(name, name) for name in node.input]


def _keep_codes(model: ModelProto) -> bool:
    """Quantise the results of operators that only move dequantised values; the runtime then moves the integers."""
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {item.name for item in model.graph.output}
    changed = False
    for place, node in list(enumerate(model.graph.node))[::-1]:
        source = makers.get(node.input[0]) if _only_moves(node) else None
        if source is None or source.op_type != "DequantizeLinear" or outputs.intersection(node.output):
            continue
        for name in node.output:
            read = readers.get(name, [])
            if read and not all(reader.op_type == "QuantizeLinear" for reader in read):
                changed = True
                codes, same = f"{name}.codes", f"{name}.same"
                for reader in read:
                    reader.input[:] = [same if given == name else given for given in reader.input]
                made = [
                    helper.make_node("QuantizeLinear", [name, *source.input[1:]], [codes]),
                    helper.make_node("DequantizeLinear", [codes, *source.input[1:]], [same]),
                ]
                for offset, item in enumerate(made):
                    model.graph.node.insert(place + 1 + offset, item)
    return changed


def _only_moves(node: NodeProto) -> bool:
    if node.op_type == "Resize":
        mode = next((attribute.s for attribute in node.attribute if attribute.name == "mode"), b"nearest")
        return bool(mode == b"nearest")
    return node.op_type in ("DepthToSpace", "Split")


def _last(instead: Mapping[str, str], name: str) -> str:
    while name in instead:
        name = instead[name]
    return name


def _grid(node: NodeProto, values: Values) -> tuple[object, ...]:
    """Return the values of step and zero point of a quantiser or dequantiser, if they are stored scalars."""
    parts = [values.get(name) for name in node.input[1:3]]
    if any(part is None or part.ndim for part in parts) or node.input[0] in values:
        return (node.output[0],)
    return tuple(part.tobytes() for part in parts if part is not None)


def _same_codes(node: NodeProto, makers: Mapping[str, NodeProto], values: Values) -> str | None:
    source = makers.get(node.input[0])
    same = source is not None and source.op_type == "DequantizeLinear" and _grid(source, values) == _grid(node, values)
    return str(source.input[0]) if same and source is not None else None


def _needless(node: NodeProto, makers: Mapping[str, NodeProto], values: Values) -> str | None:
    source = makers.get(node.input[0])
    if source is None or source.op_type != "DequantizeLinear" or source.input[0] in values:
        return None
    scale, zero = (values.get(name) for name in source.input[1:3])
    if scale is None or zero is None or zero.dtype != np.uint8 or zero.any():
        return None
    if node.op_type == "Clip":
        low, high = (values.get(name) for name in (*node.input[1:3], "", "")[:2])
        if low is None or high is None or float(low) != 0 or 255 * float(scale) > float(high) * _SLACK:
            return None
    return str(node.input[0])


def _pool_averages(model: ModelProto, values: Values) -> None:
    """Replace ``mean(x, [2, 3])`` of dequantised values by GlobalAveragePool, which has an integer kernel."""
    makers = {name: node for node in model.graph.node for name in node.output}
    ranks = {item.name: len(item.type.tensor_type.shape.dim) for item in model.graph.value_info}
    for place, node in list(enumerate(model.graph.node))[::-1]:
        source = makers.get(node.input[0]) if node.op_type == "ReduceMean" else None
        if source is None or source.op_type != "DequantizeLinear" or len(node.input) < 2:
            continue
        axes, rank = values.get(node.input[1]), ranks.get(node.output[0], 0)
        keeps = not any(attribute.name == "keepdims" and attribute.i == 0 for attribute in node.attribute)
        if axes is None or rank + (0 if keeps else 2) != 4 or {int(axis) % 4 for axis in axes} != {2, 3}:
            continue
        pooled = node.output[0] if keeps else f"{node.output[0]}.pooled"
        made = [helper.make_node("GlobalAveragePool", [node.input[0]], [pooled])]
        if not keeps:
            # the runtime moves a quantiser through a Reshape, but not through a Flatten or Squeeze
            shape = numpy_helper.from_array(np.array([0, -1]), f"{pooled}.shape")
            model.graph.initializer.append(shape)
            made.append(helper.make_node("Reshape", [pooled, shape.name], [node.output[0]]))
        del model.graph.node[place]
        for offset, item in enumerate(made):
            model.graph.node.insert(place + offset, item)


def _change_grids(model: ModelProto, values: Values) -> None:
    """Insert ``LeakyRelu(x, 1) = x`` between two grids: the runtime makes one look-up of the three operators.

    Two 1x1 convolutions with a hard swish between them took 0.95 of their time with a conversion to floats and back.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    for place, node in list(enumerate(model.graph.node))[::-1]:
        source = makers.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
        if source is None or source.op_type != "DequantizeLinear" or source.input[0] in values:
            continue
        same = f"{node.output[0]}.same"
        model.graph.node.insert(place, helper.make_node("LeakyRelu", [node.input[0]], [same], alpha=1.0))
        node.input[0] = same
