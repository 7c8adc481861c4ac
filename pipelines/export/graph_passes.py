"""Reduce an ONNX graph to what is needed for its computation."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, defs, helper, numpy_helper

from paretta.pipelines.export.integer_packing import Packed, pack_bias, pack_integers, smallest, tabled, tensor
from paretta.pipelines.export.one_grid import unite_grids
from paretta.pipelines.export.restored_weights import RESTORE_DOMAIN, merge_fields, narrow_steps, unpacking
from paretta.pipelines.runtime import WeightStorage

_DIGITS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_IMPLIED = {"dilations": 1, "strides": 1, "pads": 0}


def compact(model: ModelProto) -> ModelProto:
    """Return `model` with packed weights, derived bias scales, merged constants, short names and no metadata."""
    return compacted(model)[0]


def compacted(model: ModelProto, storage: WeightStorage = "smallest") -> tuple[ModelProto, dict[str, str]]:
    """Return `compact`, and the short name of each tensor by its name in `model`; see `pack_integers` for `storage`."""
    small = ModelProto()
    small.CopyFrom(model)
    if not _branches(small):
        unite_grids(small)
    _strip(small)
    _restore_floats(small)
    _keep_floats(small)
    if _branches(small):
        return small, {}  # branches and loops use names of the surrounding graph, which must not change
    _derive_bias_scales(small)
    _merge_equal_initializers(small)
    if storage == "portable":
        _separate_zero_points(small)
    _share_floats(small, storage)
    if storage == "smallest":
        narrow_steps(small)
    short = tighten(small, storage)
    onnx.checker.check_model(small)
    return small, short


def _branches(model: ModelProto) -> bool:
    return any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute)


def tighten(model: ModelProto, storage: WeightStorage = "smallest") -> dict[str, str]:
    """Pack the integers of `model`, drop implied attributes and shorten names, in place; return the short names.

    This is the last step of `compact` and depends only on the graph and its integers. `pipelines.coding` stores these
    and calls this function again, so its result must not change within a version of the coded format.
    """
    _pack_integers(model, storage)
    _drop_default_attributes(model)
    return _shorten_names(model)


def _strip(model: ModelProto) -> None:
    for field in ("producer_name", "producer_version", "doc_string", "domain"):
        model.ClearField(field)
    del model.metadata_props[:]
    graph = model.graph
    graph.ClearField("doc_string")
    del graph.metadata_props[:]
    del graph.value_info[:]
    graph.name = "g"
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        del part.metadata_props[:]
    for node in graph.node:
        node.ClearField("name")


def _derive_bias_scales(model: ModelProto) -> None:
    """Compute ``s_bias = s_input * s_weight`` at load time instead of storing it; the products are bitwise equal."""
    makers = {name: node for node in model.graph.node for name in node.output}
    stored = {item.name: item for item in model.graph.initializer}
    for node in list(model.graph.node):
        sources = [makers.get(name) for name in node.input[:3]]
        if node.op_type not in ("Conv", "Gemm") or len(sources) < 3:
            continue
        if any(source is None or source.op_type != "DequantizeLinear" for source in sources):
            continue
        values, weight, bias = (source for source in sources if source is not None)
        factors = [stored.get(values.input[1]), stored.get(weight.input[1])]
        product = stored.get(bias.input[1])
        if product is None or any(factor is None for factor in factors):
            continue
        expected = np.multiply(*(numpy_helper.to_array(factor) for factor in factors if factor is not None))
        if expected.size > 8 and np.array_equal(numpy_helper.to_array(product), expected):
            multiply = helper.make_node("Mul", [values.input[1], weight.input[1]], [product.name])
            model.graph.initializer.remove(stored.pop(product.name))  # a layer called again reads the same product
            model.graph.node.insert(0, multiply)


def _restore_floats(model: ModelProto) -> None:
    """Replace our own operators by nodes that ONNX Runtime folds at load time, see `unpacking`."""
    merge_fields(model)
    stored = {item.name: item for item in model.graph.initializer}
    known = set(stored)
    for index in reversed(range(len(model.graph.node))):
        node = model.graph.node[index]
        if node.domain == RESTORE_DOMAIN:
            nodes, tensors = unpacking(node, stored)
            del model.graph.node[index]
            for offset, made in enumerate(nodes):
                model.graph.node.insert(index + offset, made)
            model.graph.initializer.extend(item for item in tensors if item.name not in known)
            known.update(item.name for item in tensors)
    _drop_unused(model)
    domains = [entry for entry in model.opset_import if entry.domain != RESTORE_DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(domains)


def _keep_floats(model: ModelProto) -> None:
    """Let layers with float weights compute in floats where they read a quantised tensor.

    Between quantised tensors ONNX Runtime rounds such weights itself, to 8 bits with one step for the whole tensor
    (`WeightBiasQuantization`): a convolution that was to stay in floats was off by 7.5 % of the largest answer. It does
    so only right after a DequantizeLinear, so the values pass a Sum of nothing else.
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def is_quantised(name: str) -> bool:
        following = readers.get(name, [])
        clips = [node for node in following if node.op_type in ("Relu", "Clip")]
        return any(n.op_type == "QuantizeLinear" for n in following) or any(is_quantised(n.output[0]) for n in clips)

    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    for index in reversed(range(len(model.graph.node))):
        node = model.graph.node[index]
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or node.domain:
            continue
        given, weight = (makers.get(name) for name in node.input[:2])
        if given == "DequantizeLinear" != weight and is_quantised(node.output[0]):
            kept = f"{node.output[0]}.given"
            model.graph.node.insert(index, helper.make_node("Sum", [node.input[0]], [kept]))
            model.graph.node[index + 1].input[0] = kept


def _drop_unused(model: ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input} | {item.name for item in model.graph.output}
    _keep_initializers(model, [item for item in model.graph.initializer if item.name in used])


def _share_floats(model: ModelProto, storage: WeightStorage) -> None:
    """Store floats with few different values, such as clustered weights, as indices into a table."""
    kept: list[TensorProto] = []
    nodes: list[NodeProto] = []
    for item in model.graph.initializer:
        is_float = item.data_type == TensorProto.FLOAT
        packed = tabled(numpy_helper.to_array(item), item.name, storage) if is_float else None
        kept += [item] if packed is None else packed.tensors
        nodes += () if packed is None else packed.nodes
    _keep_initializers(model, kept)
    for made in reversed(nodes):
        model.graph.node.insert(0, made)


def _separate_zero_points(model: ModelProto) -> None:
    """Give each layer its own zero points: OpenVINO 2026.4 converts weights that share them to floats at each call."""
    stored = {item.name: item for item in model.graph.initializer if item.dims}
    taken: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored and node.input[2] in stored:
            if node.input[2] in taken:
                own = model.graph.initializer.add()
                own.CopyFrom(stored[node.input[2]])
                own.name = f"{node.input[0]}.zeros"
                node.input[2] = own.name
            taken.add(node.input[2])


def _merge_equal_initializers(model: ModelProto) -> None:
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    merged: dict[str, str] = {}
    kept = []
    for item in model.graph.initializer:
        raw = np.ascontiguousarray(numpy_helper.to_array(item)).tobytes()
        name = first.setdefault((item.data_type, tuple(item.dims), raw), item.name)
        merged[item.name] = name
        if name == item.name:
            kept.append(item)
    outputs = {output.name for output in model.graph.output}
    if outputs & set(merged):
        return
    _keep_initializers(model, kept)
    for node in model.graph.node:
        node.input[:] = [merged.get(name, name) for name in node.input]


def _pack_integers(model: ModelProto, storage: WeightStorage) -> None:
    """Store weights, biases and zero points of quantised layers in their smallest encodings."""
    roles = _roles(model)
    kept: list[TensorProto] = []
    nodes: list[NodeProto] = []
    opset = 0
    for item in model.graph.initializer:
        packed = _packed(item, roles.get(item.name, ""), storage)
        if packed is None:
            kept.append(item)
            continue
        kept += packed.tensors
        nodes += packed.nodes
        opset = max(opset, packed.opset)
    _keep_initializers(model, kept)
    everything = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(everything)
    _raise_opset(model, opset)


def _roles(model: ModelProto) -> dict[str, str]:
    """Return the initializers that are codes or zero points of a DequantizeLinear along an axis."""
    roles = {item.name: "codes" for item in model.graph.initializer if item.data_type == TensorProto.INT8}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            roles[node.input[0]] = "codes"
            roles[node.input[2]] = "zeros"
    return roles


def _packed(item: TensorProto, role: str, storage: WeightStorage) -> Packed | None:
    if not role or not item.dims or item.data_type not in (TensorProto.INT8, TensorProto.INT32):
        return None
    codes = numpy_helper.to_array(item).astype(np.int64)
    if role == "zeros" and not codes.any():
        return _packed_zeros(item, codes.size)
    if item.data_type == TensorProto.INT32:
        return pack_bias(codes, item.name)
    return pack_integers(codes, item.name, storage)


def _packed_zeros(item: TensorProto, size: int) -> Packed:
    """Generate a row of zeros from its length, if that is shorter."""

    def encodings(name: str) -> Iterator[Packed]:
        plain = TensorProto()
        plain.CopyFrom(item)
        plain.name = name
        yield Packed(name, (plain,), (), "plain")
        shape = tensor(f"{name}.0", TensorProto.INT64, [size])
        zero = TensorProto(data_type=item.data_type, dims=[1], raw_data=bytes(4 if item.data_type == 6 else 1))
        fill = helper.make_node("ConstantOfShape", [shape.name], [name], value=zero)
        yield Packed(name, (shape,), (fill,), "zeros")

    return smallest(encodings, item.name)


def _keep_initializers(model: ModelProto, kept: list[TensorProto]) -> None:
    copies = [TensorProto.FromString(item.SerializeToString()) for item in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(copies)


def _raise_opset(model: ModelProto, opset: int) -> None:
    for entry in model.opset_import:
        if entry.domain == "" and opset > entry.version:
            # The operators used here have the same semantics in 21 and 25; later versions only allow more types.
            entry.version = opset
            model.ir_version = max(model.ir_version, 13)


def _drop_default_attributes(model: ModelProto) -> None:
    version = next((entry.version for entry in model.opset_import if entry.domain == ""), 0)
    for node in model.graph.node:
        if node.domain == "":
            schema = defs.get_schema(node.op_type, version)
            kept = [attribute for attribute in node.attribute if not _is_default(attribute, schema)]
            del node.attribute[:]
            node.attribute.extend(kept)


def _is_default(attribute: onnx.AttributeProto, schema: defs.OpSchema) -> bool:
    implied = _IMPLIED.get(attribute.name)
    if implied is not None and attribute.ints and set(attribute.ints) == {implied}:
        return True
    known = schema.attributes.get(attribute.name)
    return known is not None and known.default_value.SerializeToString() == attribute.SerializeToString()


def _shorten_names(model: ModelProto) -> dict[str, str]:
    kept = {item.name for item in (*model.graph.input, *model.graph.output)} | {""}
    fresh = _names(kept)
    short = {name: name for name in kept}
    for item in model.graph.initializer:
        item.name = short.setdefault(item.name, next(fresh))
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [short[name] if name in short else short.setdefault(name, next(fresh)) for name in names]
    return short


def _names(taken: set[str]) -> Iterator[str]:
    number = 0
    while True:
        name, rest = _DIGITS[number % 52], number // 52
        while rest:
            rest -= 1
            name, rest = name + _DIGITS[rest % 52], rest // 52
        number += 1
        if name not in taken:
            yield name
