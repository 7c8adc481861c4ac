"""Nodes that make what a layer reads of a stored weight, once at load time: floats, or fields of few bits."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from paretta.pipelines.export.integer_packing import pack_fields, tensor

RESTORE_DOMAIN: Final = "paretta.restore"
FIELDS: Final = "Fields"  # codes as unsigned fields of few bits, see `packed_fields`; the other operator is Restore
# the ends of the names that the parts of a stored weight have in the exporter's graph
_CODES, _SCALE, _ZEROS = ".codes", ".scale", ".zero_point"
_Made: TypeAlias = tuple[list[NodeProto], list[TensorProto]]

_UNPACKING = 400  # bytes in the file of the nodes that make fields of codes
_LEAST_STEPS = 24  # fewer save less than the node that widens them takes


def unpacking(node: NodeProto, stored: Mapping[str, TensorProto]) -> _Made:
    """Return the nodes and tensors in place of an operator of `RESTORE_DOMAIN`.

    ``Restore`` becomes ``(codes - zero point) * scale``. A DequantizeLinear would run at every call instead, since the
    runtime keeps it for integer kernels. ``Fields`` becomes `packed_fields`, or what computes them from codes that are
    smaller in the file.
    """
    settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    codes, *rest = (stored[name] for name in node.input)
    if node.op_type == FIELDS:
        return _fields(node.output[0], codes, settings["bits"], settings["columns"], settings["shape"])
    scale, zeros = rest
    return _floats(node.output[0], codes, scale, zeros, settings.get("group"))


def merge_fields(model: ModelProto) -> None:
    """Name fields after their codes, in place, and make those only once that several layers read."""
    made: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        node.input[:] = [made.get(name, name) for name in node.input]
        if node.domain == RESTORE_DOMAIN and node.op_type == FIELDS:
            name = f"{node.input[0]}.fields"
            is_new, made[node.output[0]] = name not in made.values(), name
            node.output[0] = name
            if not is_new:
                continue
        kept.append(node)
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def parts_of(name: str) -> tuple[str, ...]:
    """Return the names of what a tensor of the exporter's graph may be stored as, with the steps of its groups.

    Steps and zero points are no weights by themselves, so there are none for them.

    >>> parts_of("fc.stored.codes")
    ('fc.stored.codes', 'fc.stored.codes.fields', 'fc.stored.codes.steps', 'fc.stored.scale', 'fc.zero_point')
    """
    if name.endswith((_SCALE, _ZEROS)):
        return ()
    if not name.endswith(_CODES):
        return (name,)
    stem = name.removesuffix(_CODES)
    return name, f"{name}.fields", f"{name}.steps", f"{stem}{_SCALE}", f"{stem.removesuffix('.stored')}{_ZEROS}"


def packed_fields(codes: NDArray[np.int64], bits: int, columns: int) -> NDArray[np.uint8]:
    """Return `codes` [rows, n] as ONNX Runtime's packed operators read them, uint8 [rows, columns * bits / 8].

    Each code is ``code + 2**(bits - 1)`` in a field of so many bits, the first one lowest; fields after the n-th hold
    zero.

    >>> packed_fields(np.array([[-8, 7, 1]]), 4, 4).tolist()
    [[240, 137]]
    """
    filled = np.zeros((len(codes), columns), np.int64)
    filled[:, : codes.shape[1]] = codes
    packed = np.frombuffer(pack_fields(filled + 2 ** (bits - 1), bits), np.uint8) if bits < 8 else filled + 128
    return packed.astype(np.uint8).reshape(len(codes), -1)


def narrow_steps(model: ModelProto) -> None:
    """Store steps of groups in 16 bits, in place: they are rounded to bfloat16 in training, see `LearnedStepSize`."""
    for item in list(model.graph.initializer):
        if item.data_type != TensorProto.FLOAT or len(item.dims) < 2 or np.prod(item.dims) < _LEAST_STEPS:
            continue
        bits = numpy_helper.to_array(item).view(np.uint32)
        if not (bits & 0xFFFF).any():
            raw = (bits >> 16).astype("<u2").tobytes()
            name = f"{item.name}.16"
            narrow = TensorProto(name=name, data_type=TensorProto.BFLOAT16, dims=item.dims, raw_data=raw)
            model.graph.node.insert(0, helper.make_node("Cast", [name], [item.name], to=TensorProto.FLOAT))
            item.CopyFrom(narrow)


def _floats(name: str, codes: TensorProto, scale: TensorProto, zeros: TensorProto, group: int | None) -> _Made:
    wide, steps = f"{name}.wide", numpy_helper.to_array(scale)
    points = numpy_helper.to_array(zeros)
    nodes = [helper.make_node("Cast", [codes.name], [wide], to=TensorProto.FLOAT)]
    tensors: list[TensorProto] = []
    if points.any():
        shift = numpy_helper.from_array(_by_row(points, codes, group), f"{name}.zeros")
        nodes.append(helper.make_node("Cast", [shift.name], [f"{name}.shift"], to=TensorProto.FLOAT))
        spread = _spread(f"{name}.shift", codes, group, nodes, tensors)
        nodes.append(helper.make_node("Sub", [wide, spread], [f"{name}.centred"]))
        tensors.append(shift)
        wide = f"{name}.centred"
    stored = numpy_helper.from_array(_by_row(steps, codes, group), f"{codes.name if group else name}.steps")
    spread = _spread(stored.name, codes, group, nodes, tensors)
    nodes.append(helper.make_node("Mul", [wide, spread], [name]))
    return nodes, [*tensors, stored]


def _by_row(values: NDArray[np.generic], codes: TensorProto, group: int | None) -> NDArray[np.generic]:
    if group is not None:
        return values[..., None]
    return values.reshape([-1] + [1] * (len(codes.dims) - 1) if values.ndim else [])


def _spread(
    name: str, codes: TensorProto, group: int | None, nodes: list[NodeProto], tensors: list[TensorProto]
) -> str:
    """Return the name of steps [rows, groups, 1] repeated over their groups, [rows, columns]; others spread alone."""
    if group is None:
        return name
    rows, columns = codes.dims
    groups = -(-columns // group)
    sizes = tensor(f"{name}.group", TensorProto.INT64, [rows, groups, group])
    flat = tensor(f"{name}.flat", TensorProto.INT64, [rows, groups * group])
    nodes.append(helper.make_node("Expand", [name, sizes.name], [f"{name}.each"]))
    nodes.append(helper.make_node("Reshape", [f"{name}.each", flat.name], [f"{name}.row"]))
    tensors += [sizes, flat]
    if groups * group == columns:
        return f"{name}.row"
    ends = [tensor(f"{name}.{end}", TensorProto.INT64, [at]) for end, at in (("from", 0), ("to", columns), ("axis", 1))]
    nodes.append(helper.make_node("Slice", [f"{name}.row", *(end.name for end in ends)], [f"{name}.cut"]))
    tensors += ends
    return f"{name}.cut"


def _fields(name: str, item: TensorProto, bits: int, columns: int, shape: Sequence[int]) -> _Made:
    codes = numpy_helper.to_array(item).astype(np.int64)
    if codes.size * (bits * columns / codes.shape[1] - _stored_bits(codes)) < 8 * _UNPACKING:
        made = packed_fields(codes, bits, columns).reshape(shape)
        return [], [TensorProto(name=name, data_type=TensorProto.UINT8, dims=shape, raw_data=made.tobytes())]
    per_byte = 8 // bits
    pads = tensor(f"{name}.pads", TensorProto.INT64, [0, 0, 0, columns - codes.shape[1]])
    lines = tensor(f"{name}.lines", TensorProto.INT64, [-1, per_byte])
    places = tensor(f"{name}.places", TensorProto.INT32, [2 ** (bits * place) for place in range(per_byte)])
    middle = tensor(
        f"{name}.middle", TensorProto.INT32, 2 ** (bits - 1) * sum(2 ** (bits * k) for k in range(per_byte))
    )
    last = tensor(f"{name}.last", TensorProto.INT64, [1])
    whole = tensor(f"{name}.shape", TensorProto.INT64, shape)
    names = [f"{name}.{step}" for step in ("wide", "filled", "apart", "placed", "sum", "shifted", "bytes")]
    wide, filled, apart, placed, total, shifted, narrow = names
    source, padded = (
        (wide, []) if columns == codes.shape[1] else (filled, [helper.make_node("Pad", [wide, pads.name], [filled])])
    )
    nodes = [
        helper.make_node("Cast", [item.name], [wide], to=TensorProto.INT32),
        *padded,
        helper.make_node("Reshape", [source, lines.name], [apart]),
        helper.make_node("Mul", [apart, places.name], [placed]),
        helper.make_node("ReduceSum", [placed, last.name], [total], keepdims=0),
        helper.make_node("Add", [total, middle.name], [shifted]),
        helper.make_node("Cast", [shifted], [narrow], to=TensorProto.UINT8),
        helper.make_node("Reshape", [narrow, whole.name], [name]),
    ]
    return nodes, [*([pads] if padded else []), lines, places, middle, last, whole]


def _stored_bits(codes: NDArray[np.int64]) -> float:
    """Return about how many bits a code takes in the file, see `paretta.pipelines.export.integer_packing`."""
    bits = math.log2(max(int(np.ptp(codes)) + 1, 2))
    return min(64 / (63 // bits), math.ceil(bits))
