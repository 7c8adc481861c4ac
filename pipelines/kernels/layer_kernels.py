"""What ONNX Runtime makes of each layer: the kernel that computes it, and the bits that its weight has there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from paretta.pipelines.export.origin import Exported, Origin
from paretta.pipelines.kernels.mac_count import packed_bits, rounds_blocks
from paretta.pipelines.kernels.optimised_file import optimised_file
from paretta.pipelines.kernels.ort_kernels import INTEGER
from paretta.pipelines.quantization.layer_facts import LayerFacts

_WRAPPED = "model."
_BLOCKS = "MatMulNBits in int8"
_LOOK_UPS = frozenset({"Gather", "GatherND", "GatherBlockQuantized"})
_RECURRENT = frozenset({"GRU", "LSTM", "RNN", "DynamicQuantizeLSTM"})
_Use: TypeAlias = tuple[str, int | None, float | None]  # kernel, bits, bits in the file
_BITS: Mapping[int, int] = {
    TensorProto.INT8: 8,
    TensorProto.UINT8: 8,
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
    TensorProto.FLOAT16: 16,
    TensorProto.FLOAT: 32,
    TensorProto.DOUBLE: 64,
}


@dataclass(frozen=True, slots=True)
class Ran:
    """How one weight runs.

    Args:
        kernels: operators of ONNX Runtime's optimised graph that read it.
        bits: of each of its numbers there.
        stored: bits that each of its numbers takes in the file, what unpacks it counted in; None where it is unknown.
    """

    kernels: tuple[str, ...]
    bits: int | None
    stored: float | None

    @property
    def kernel(self) -> str:
        """The kernels in words."""
        return ", ".join(self.kernels)

    @property
    def is_integer(self) -> bool:
        """Whether all of them compute in integers."""
        return all(kernel in INTEGER or kernel == _BLOCKS for kernel in self.kernels)

    @property
    def looks_up(self) -> bool:
        """Whether they only read rows."""
        return all(kernel in _LOOK_UPS for kernel in self.kernels)


def facts_that_ran(exported: Exported, layers: Mapping[str, LayerFacts]) -> dict[str, LayerFacts]:
    """Return the facts of a model's layers as ONNX Runtime runs its export, in place of what they are marked as."""
    ran = layers_that_ran(exported, layers)
    return {name: _as_run(facts, ran[name]) if name in ran else facts for name, facts in layers.items()}


def _as_run(facts: LayerFacts, ran: Ran) -> LayerFacts:
    reason = facts.in_floats
    if ran.is_integer:
        reason = None
    elif reason is None and not ran.looks_up:
        reason = f"ONNX Runtime runs it as {ran.kernel}, in floats"
    bits = facts.bits
    if ran.bits is not None and ran.bits < bits:
        bits, reason = (
            ran.bits,
            "; ".join(filter(None, (reason, f"ONNX Runtime rounds it to {ran.bits} bits by itself"))),
        )
    return replace(facts, bits=bits, in_floats=reason, stored=ran.stored, kernel=ran.kernel)


def layers_that_ran(exported: Exported, layers: Mapping[str, object]) -> dict[str, Ran]:
    """Return how ONNX Runtime runs each weight, by the names of `layers`; those that it does not read are left out.

    The graph is the one that it makes of the file on any machine: operators are fused, and the blocked layout of float
    convolutions, which depends on the processor, is left out.
    """
    graph = optimised_graph(exported.content)
    owners = _Owners(exported.origin, layers)
    kinds = {item.name: item for item in graph.initializer}
    sources = {name: name for name in kinds}  # of tensors that are computed from one weight, that weight
    found: dict[str, list[_Use]] = {}
    beside: dict[str, _Use] = {}  # equal weights of several layers are stored once, under the name of one of them
    for node in graph.node:
        given = [sources[name] for name in node.input if name in sources]
        weights = [name for name in given if len(kinds[name].dims) > 1 and _is_weight(node, name, sources)]
        weights.sort(key=lambda name: -len(kinds[name].dims))
        if len(given) == sum(bool(name) for name in node.input) and given:
            sources.update(dict.fromkeys(node.output, (weights or given)[0]))
            continue
        kernel = _BLOCKS if rounds_blocks(node) else node.op_type
        for weight in weights:
            bits = _bits(node, kinds[weight])
            for layer in owners.of(weight, node):
                found.setdefault(layer, []).append((kernel, bits, owners.stored_bits(layer, weight)))
            for layer in owners.around(node):
                beside[layer] = kernel, bits, owners.stored_bits(layer, weight)
    rest = {layer: [use] for layer, use in beside.items() if layer not in found}
    return {layer: _together(uses) for layer, uses in (found | rest).items()}


def _together(uses: list[_Use]) -> Ran:
    if all(kernel in _LOOK_UPS for kernel, _, _ in uses):  # rows of steps are looked up beside those of codes
        fewest = min((bits for _, bits, _ in uses if bits), default=None)
        uses = [use for use in uses if use[1] == fewest]
    kernels = tuple(dict.fromkeys(kernel for kernel, _, _ in uses))
    stored = [bits for _, _, bits in uses if bits is not None]
    return Ran(kernels, max((bits for _, bits, _ in uses if bits), default=None), max(stored, default=None))


def _is_weight(node: NodeProto, name: str, sources: Mapping[str, str]) -> bool:
    """Return whether the node multiplies by a tensor of two or more dimensions; a recurrent layer's bias has two."""
    return node.op_type not in _RECURRENT or name in [sources.get(given) for given in node.input[1:3]]


def _bits(node: NodeProto, weight: TensorProto) -> int | None:
    return packed_bits(node) or _BITS.get(weight.data_type)


class _Owners:
    """Finds the layers that tensors belong to, by name or by the modules around what reads or yields them."""

    def __init__(self, origin: Origin, layers: Mapping[str, object]) -> None:
        self._origin, self._layers = origin, layers
        modules = {scope for scopes in origin.makers.values() for scope in scopes}
        # a model of several inputs is exported inside another one
        wrapped = sum(_WRAPPED + layer in modules for layer in layers) > sum(layer in modules for layer in layers)
        self._prefix = _WRAPPED if wrapped else ""
        modules = {scope.removeprefix(self._prefix) for scope in modules}
        self._of_module: dict[str, list[str]] = {}
        for layer in layers:
            module = layer if layer in modules else layer.rpartition(".")[0]
            if module or not layer:  # anything stands inside the whole model
                self._of_module.setdefault(module, []).append(layer)
        self._stored: dict[str, float] = {}
        for name, bits in origin.stored_bits.items():
            for layer in self._named(name):
                self._stored[layer] = max(bits, self._stored.get(layer, 0.0))

    def of(self, weight: str, node: NodeProto) -> list[str]:
        """Return the layers of a weight that `node` reads; tensors of ONNX Runtime's own are told by its output."""
        by_name = self._named(weight)
        if by_name and len(self._origin.readers.get(weight, ())) <= 1:
            return by_name
        made = self.around(node)
        read = [layer for scopes in self._origin.readers.get(weight, ()) for layer in self._inside(scopes)]
        read = list(dict.fromkeys([*by_name, *read]))
        return [layer for layer in read if layer in made] or read or made

    def around(self, node: NodeProto) -> list[str]:
        """Return the layers around the operation that yields the output of `node`."""
        return self._inside(self._origin.makers.get(node.output[0], ()))

    def stored_bits(self, layer: str, weight: str) -> float | None:
        """Return the bits that each number of the layer's weight takes in the file."""
        return self._stored.get(layer, self._origin.stored_bits.get(weight))

    def _named(self, tensor: str) -> list[str]:
        """Return the layer whose weight had the tensor's name, or a name of its parts."""
        parts = self._origin.original.get(tensor, tensor).removeprefix(self._prefix).split(".")
        names = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
        whole = next((name for name in names if name in self._layers), None)
        return [] if whole is None else [whole]

    def _inside(self, scopes: tuple[str, ...]) -> list[str]:
        names = (scope.removeprefix(self._prefix) for scope in reversed(scopes))
        return next((self._of_module[name] for name in names if name in self._of_module), [])


def optimised_graph(content: bytes) -> GraphProto:
    """Return the graph that ONNX Runtime runs, with the graphs of its branches in one, without values of weights."""
    with optimised_file(content) as path:
        graph: GraphProto = onnx.load(str(path), load_external_data=False).graph
    whole = GraphProto()
    for part in _graphs(graph):
        whole.node.extend(part.node)
        whole.initializer.extend(part.initializer)
    return whole


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
