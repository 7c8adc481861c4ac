"""Places where a scale can move from the channels of one layer to the layers that read them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.fx import Node

from paretta.pipelines.data.trees import TensorTree
from paretta.pipelines.model.weights import shared_weights
from paretta.pipelines.quantization.layer_graph import plain_program

_aten = torch.ops.aten
_CONVOLUTIONS: Final = (_aten.conv2d.default, _aten.conv2d.padding)
_LINEAR: Final = _aten.linear.default
_NORMS: Final = (_aten.layer_norm.default, _aten.rms_norm.default)
# f(s x) = s f(x) for every s > 0, value by value or over the positions of a channel
_HOMOGENEOUS: Final = tuple(
    getattr(_aten, name)
    for name in ("relu", "relu_", "leaky_relu", "leaky_relu_", "dropout", "contiguous", "clone", "alias", "detach_")
)
_OVER_IMAGES: Final = tuple(
    getattr(_aten, name) for name in ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "flatten", "mean")
)
_IMAGE_AXES: Final = ({2, 3}, {-1, -2})


@dataclass(frozen=True, slots=True)
class ScaleSite:
    """A layer or norm whose output channels reach nothing but the inputs of layers, up to their scale.

    Args:
        source: name of an nn.Conv2d, nn.Linear, nn.LayerNorm or nn.RMSNorm, or of the module that owns `parameter`.
        readers: names of the nn.Conv2d and nn.Linear layers that read it.
        parameter: the name of a parameter that the module multiplies by; empty: the source is a layer or norm.
    """

    source: str
    readers: tuple[str, ...]
    parameter: str = ""


def scale_sites(model: nn.Module, example_input: TensorTree) -> list[ScaleSite]:
    """Return the places in `model` where scales can move, in the order of its graph.

    Between a source and its readers only functions stand with ``f(s x) = s f(x)``: ReLU, leaky ReLU, pools, flattening.
    A layer that is called twice, or whose weight another module uses, has no part.

    Args:
        model: in evaluation mode; it is not changed.
        example_input: what it is called with, a tree of [n, ...].
    """
    graph = _Graph.of(model, example_input)
    taken = shared_weights(model)
    sites = []
    for node in graph.nodes:
        found = graph.source(node)
        readers = None if found is None else graph.readers(node, is_image=node.target in _CONVOLUTIONS)
        if found is None or not readers:
            continue
        names = [found[0], *readers]
        if len({*names}) == len(names) and not taken & {*names} and all(graph.uses[name] == 1 for name in names):
            sites.append(ScaleSite(found[0], tuple(readers), found[1]))
    return sites


@dataclass(slots=True)
class _Graph:
    nodes: list[Node]
    states: dict[str, str]  # names of parameters, by that of their node
    uses: dict[str, int]  # number of nodes that use a module's parameters as a layer or norm

    @classmethod
    def of(cls, model: nn.Module, example_input: TensorTree) -> "_Graph":
        program = plain_program(model, example_input)
        parameters = {
            node: name.removeprefix("model.") for node, name in program.graph_signature.inputs_to_parameters.items()
        }
        graph = cls(list(program.graph.nodes), parameters, {})
        for node in graph.nodes:
            found = graph.source(node)
            if found is not None:
                graph.uses[found[0]] = graph.uses.get(found[0], 0) + 1
        return graph

    def source(self, node: Node) -> tuple[str, str] | None:
        """Return the module, and for a product the parameter, that scales the channels of a node's result."""
        if node.target in (*_CONVOLUTIONS, _LINEAR):
            owner = self._owner(node.args[1])
            return None if owner is None else (owner, "")
        if node.target in _NORMS:
            owner = self._owner(node.args[2] if len(node.args) > 2 else None)
            return None if owner is None else (owner, "")
        if node.target is _aten.mul.Tensor:
            for argument in node.args:
                name = self.states.get(argument.name, "") if isinstance(argument, Node) else ""
                if name and isinstance(argument, Node) and cast(Tensor, argument.meta["val"]).dim() == 1:
                    owner, _, parameter = name.rpartition(".")
                    return owner, parameter
        return None

    def _owner(self, argument: object) -> str | None:
        name = self.states.get(argument.name) if isinstance(argument, Node) else None
        return None if name is None else name.rpartition(".")[0]

    def readers(self, node: Node, *, is_image: bool) -> list[str] | None:
        """Return the layers that read a node's result and nothing else does; None if something else does."""
        found: list[str] = []
        for user in node.users:
            ends = list(self._ends(node, user, is_image=is_image))
            if None in ends:
                return None
            found += [name for name in ends if name is not None]
        return found

    def _ends(self, node: Node, user: Node, *, is_image: bool) -> Iterator[str | None]:
        reads = user.args[:1] == (node,) and node not in user.args[1:]
        if reads and (self._is_linear(node, user, is_image=is_image) or (is_image and user.target in _CONVOLUTIONS)):
            yield self._owner(user.args[1])
        elif reads and self._passes(user, is_image=is_image):
            yield from [None] if not user.users else []
            for further in user.users:
                yield from self._ends(user, further, is_image=is_image)
        else:
            yield None

    def _is_linear(self, node: Node, user: Node, *, is_image: bool) -> bool:
        """Return whether `user` is a linear layer over the channels of `node`; over an image it reads another axis."""
        return user.target is _LINEAR and not (is_image and cast(Tensor, node.meta["val"]).dim() > 2)

    def _passes(self, user: Node, *, is_image: bool) -> bool:
        packet = getattr(user.target, "overloadpacket", None)
        if packet in _HOMOGENEOUS:
            return True
        if not is_image or packet not in _OVER_IMAGES:
            return False
        if packet is _aten.flatten:
            return user.args[1:2] == (1,) and len(user.args) < 3
        return packet is not _aten.mean or {*cast("list[int]", user.args[1])} in _IMAGE_AXES
