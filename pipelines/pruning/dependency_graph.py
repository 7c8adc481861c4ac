"""Find groups of channels with DepGraph, and report layers that it cannot handle."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils import _pytree
from torch_pruning import ops
from torch_pruning.dependency import index_mapping

from paretta.pipelines.data.trees import TensorTree, call_model, tensors
from paretta.pipelines.model.weights import LAYERS
from paretta.pipelines.pruning.channel_groups import ChannelGroup, Member, MemberRole, PartPositions

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_MAX_VISITS = 10  # the most visits of a node in the search of one group
# exceptions of DepGraph on unknown operations
_FAULTS = (IndexError, ValueError, TypeError, AttributeError, KeyError, ZeroDivisionError, RuntimeError, AssertionError)


@dataclass(slots=True)
class Found:
    """The channels that can be pruned.

    Args:
        groups: in the order of the graph; a part is one channel, or one channel of each block of grouped convolutions.
        kept: names of layers whose channels cannot be removed, with the reason.
    """

    groups: list[ChannelGroup] = field(default_factory=list)
    kept: dict[tuple[str, ...], str] = field(default_factory=dict)


class _Recurrent(torch_pruning.pruner.function.BasePruningFunc):  # type: ignore[misc]
    """Lets DepGraph remove input features of nn.GRU, nn.LSTM, nn.RNN and their cells."""

    def prune_in_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        """Remove columns from every weight that reads the input."""
        assert isinstance(layer, _RECURRENT)
        gone = set(idxs)
        kept = [index for index in range(layer.input_size) if index not in gone]
        for name, weight in list(layer.named_parameters()):
            if name in {"weight_ih", "weight_ih_l0", "weight_ih_l0_reverse"}:
                columns = torch.tensor(kept, device=weight.device)
                setattr(layer, name, nn.Parameter(weight.detach().index_select(1, columns)))
        layer.input_size = len(kept)
        return layer

    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        """Raise, since recurrent states feed back into themselves."""
        raise ValueError("states of recurrent layers keep their width")

    def get_in_channels(self, layer: nn.Module) -> int:
        """Return the number of features."""
        assert isinstance(layer, _RECURRENT)
        return layer.input_size

    def get_out_channels(self, layer: nn.Module) -> int:
        """Return the width of the outputs."""
        assert isinstance(layer, _RECURRENT)
        width = getattr(layer, "proj_size", 0) or layer.hidden_size
        return int(width) * (2 if getattr(layer, "bidirectional", False) else 1)


class _Graph(torch_pruning.DependencyGraph):  # type: ignore[misc]
    """Treats operations on the last axis inside of heads, [n, heads, tokens, width], as elementwise.

    A search of a group that would visit nodes forever, for example if halves are swapped, ends with a RuntimeError.
    """

    def _build_dependency(self, module2node: Mapping[nn.Module, "torch_pruning.dependency.Node"]) -> None:
        super()._build_dependency(module2node)
        self.visits = 0
        for node in module2node.values():
            node.dependencies = _Counted(self, node.dependencies)
            if node.type in {ops.OPTYPE.CONCAT, ops.OPTYPE.SPLIT, ops.OPTYPE.SLICE} and _is_in_heads(node.grad_fn):
                node.type = ops.OPTYPE.ELEMENTWISE


class _Counted(list[object]):
    def __init__(self, graph: _Graph, dependencies: Sequence[object]) -> None:
        super().__init__(dependencies)
        self._graph = graph

    def __iter__(self) -> Iterator[object]:
        self._graph.visits += 1
        if self._graph.visits > _MAX_VISITS * len(self._graph.module2node):
            raise RuntimeError("their positions change in an endless cycle")
        return super().__iter__()


def _is_in_heads(operation: torch.autograd.graph.Node) -> bool:
    """Return True if an operation joins or splits the last of four or more axes."""
    sizes = getattr(operation, "_saved_self_sym_sizes", None) or operation._input_metadata[0].shape
    return len(sizes) > 3 and getattr(operation, "_saved_dim", 0) % 2**64 in {len(sizes) - 1, 2**64 - 1}


class _Opaque(torch.autograd.Function):
    """Represents a module as one operation on its input."""

    @staticmethod
    def forward(_: object, __: Tensor, *outputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(output.clone() for output in outputs)

    @staticmethod
    def backward(_: object, *__: Tensor) -> None:
        raise AssertionError("only traced")


def dependency_groups(model: nn.Module, example: TensorTree) -> Found:
    """Find every group of removable channels, except those that make the model's outputs.

    Args:
        model: in evaluation mode.
        example: what it is called with, a tree of [n, ...].
    """
    found, names = Found(), {module: name for name, module in model.named_modules()}
    recurrent = {type(module): _Recurrent() for module in names if isinstance(module, _RECURRENT)}
    try:
        with warnings.catch_warnings(), _opaque(model), _all_trained(model), _reshapes_of_known_widths():
            # DepGraph prunes parameters outside of layers at their last axis and treats unknown operations as
            # elementwise; both assumptions are tested before anything is cut
            warnings.simplefilter("ignore", UserWarning)
            graph = _Graph().build_dependency(model, example, _flat_answer, customized_pruners=recurrent, verbose=False)
    except _FAULTS as error:
        layers = tuple(name for module, name in names.items() if isinstance(module, LAYERS))
        found.kept[layers] = f"the model's graph cannot be followed: {type(error).__name__}: {error}"
        return found
    with _reshapes_of_known_widths():
        told = list(_groups(graph, names))
    for makers, group in told:
        if any({*makers} < {*others} for others, _ in told):
            continue  # if keys are repeated for several heads, they are also found as a group of their own
        if isinstance(group, str):
            found.kept[makers] = group
        else:
            found.groups.append(group)
    return found


def _flat_answer(model: nn.Module, inputs: TensorTree) -> list[Tensor]:
    return tensors(call_model(model, inputs))


def _groups(graph: _Graph, names: Mapping[nn.Module, str]) -> Iterator[tuple[tuple[str, ...], ChannelGroup | str]]:
    outputs, seen = _output_layers(graph), set[nn.Module]()
    for layer in list(graph.module2node):
        if not isinstance(layer, LAYERS) or layer in outputs or layer in seen:
            continue
        pruner = graph.get_pruner_of_module(layer)
        graph.visits = 0
        try:
            width = pruner.get_out_channels(layer)
            group = graph.get_pruning_group(layer, pruner.prune_out_channels, list(range(width)))
        except _FAULTS as error:
            seen.add(layer)
            yield (names[layer],), f"what reads them cannot be followed: {type(error).__name__}: {error}"
            continue
        makers = [item.dep.target.module for item in group if makes_outputs(item.dep.handler)]
        seen.update(makers)
        if any(maker in outputs for maker in makers):
            continue
        told = tuple(names[maker] for maker in makers)
        yield told, _obstacle(group, names) or _channel_group(graph, group, names, told)


def _obstacle(group: "torch_pruning.Group", names: Mapping[nn.Module, str]) -> str | None:
    for item in group:
        module = item.dep.target.module
        if isinstance(module, nn.MultiheadAttention):
            return f"{names[module]} has extra keys"
        if isinstance(module, _RECURRENT) and item.dep.handler.__name__ == "prune_out_channels":
            return f"{names[module]} keeps the width of its states"
        if parametrize.is_parametrized(module):
            return f"a weight of {names[module]} is computed from other tensors"
    return None


def _channel_group(
    graph: "torch_pruning.DependencyGraph",
    group: "torch_pruning.Group",
    names: Mapping[nn.Module, str],
    makers: tuple[str, ...],
) -> ChannelGroup:
    blocks, width = _blocks(group), len(group[0].idxs)
    num_parts = width // blocks
    members = []
    for item in group:
        target, handler = item.dep.target, item.dep.handler
        if isinstance(target.module, nn.Parameter):
            owner, _, attribute = graph._param_to_name[target.module].rpartition(".")
            module = graph.model.get_submodule(owner)
            axis = target.pruning_dim % target.module.dim()
            length = target.module.shape[axis]
            positions = _positions(item, num_parts, length)
            members.append(Member(owner, module, "follows", length, positions, None, attribute, axis))
        elif target.module in names:
            length = _width(target.module, handler)
            if length is None:
                continue
            positions = _positions(item, num_parts, length)
            role = _role(target.module, handler)
            members.append(
                Member(names[target.module], target.module, role, length, positions, handler, "", target.pruning_dim)
            )
    return ChannelGroup(makers, tuple(members), num_parts, _around(graph.model, members))


def _around(model: nn.Module, members: Sequence[Member]) -> tuple[nn.Module, ...]:
    """Return the modules, except torch's own, that contain members, the innermost first."""
    found: dict[nn.Module, int] = {}
    for member in members:
        path = member.name.split(".")
        for depth in range(len(path)):
            found[model.get_submodule(".".join(path[:depth]))] = depth
    own = [module for module in found if not type(module).__module__.startswith("torch.nn")]
    return tuple(sorted(own, key=lambda module: -found[module]))


def _positions(item: "torch_pruning.dependency.GroupItem", num_parts: int, length: int) -> PartPositions:
    """Return each part's positions according to DepGraph; empty for all parts if it does not know them."""
    found: list[list[int]] = [[] for _ in range(num_parts)]
    for index, root in zip(item.idxs, item.root_idxs, strict=True):
        if root is None or not 0 <= index < length:
            return ()
        found[root % num_parts].append(index)
    return tuple(tuple(sorted(places)) for places in found)


def _blocks(group: "torch_pruning.Group") -> int:
    """Return the number of equal blocks of channels (grouped convolutions, group norm)."""
    blocks = 1
    for dependency, _ in group:
        module = dependency.target.module
        if isinstance(module, nn.GroupNorm):
            blocks = max(blocks, module.num_groups)
        if isinstance(module, LAYERS[:3]) and 1 < module.groups < max(module.in_channels, module.out_channels):
            blocks = max(blocks, module.groups)
    return blocks if len(group[0].idxs) % blocks == 0 else 1


def _width(module: nn.Module, handler: object) -> int | None:
    """Return the number of channels that a module reads or makes; None if it has one parameter for any number."""
    pruner = getattr(handler, "__self__")  # noqa: B009 - a bound method's owner
    reads = _role(module, handler) == "reads"
    width = pruner.get_in_channels(module) if reads else pruner.get_out_channels(module)
    return None if width is None else int(width)


def _role(module: nn.Module, handler: object) -> MemberRole:
    if makes_outputs(handler):
        return "makes"
    readers = (torch_pruning.prune_conv_in_channels, torch_pruning.prune_linear_in_channels)
    return "reads" if handler in readers or isinstance(module, _RECURRENT) else "follows"


def makes_outputs(handler: object) -> bool:
    """Return True if a pruning function removes output channels of a convolution or linear layer."""
    return handler in (
        torch_pruning.prune_conv_out_channels,
        torch_pruning.prune_linear_out_channels,
        torch_pruning.prune_depthwise_conv_out_channels,
    )


def _output_layers(graph: "torch_pruning.DependencyGraph") -> set[nn.Module]:
    """Find the layers that no other layer reads from: their channels are the model's outputs."""
    nodes = cast(Mapping[nn.Module, "torch_pruning.dependency.Node"], graph.module2node)
    return {module for module, node in nodes.items() if isinstance(module, LAYERS) and not _reaches_layer(node)}


def _reaches_layer(start: "torch_pruning.dependency.Node") -> bool:
    seen, waiting = {start}, list(start.outputs)
    while waiting:
        node = waiting.pop()
        if isinstance(node.module, (*LAYERS, nn.MultiheadAttention, *_RECURRENT)):
            return True
        waiting += [follower for follower in node.outputs if follower not in seen]
        seen.add(node)
    return False


@contextmanager
def _reshapes_of_known_widths() -> Iterator[None]:
    """Let DepGraph leave out reshapes whose width it takes for 0, which it divides by otherwise.

    It does so in a shuffle whose channels also pass a unit untouched; what it makes of the rest is tested by values.
    """
    known = index_mapping.update_reshape_index_mapping

    def guarded(graph: "torch_pruning.DependencyGraph", node: "torch_pruning.dependency.Node") -> None:
        with suppress(ZeroDivisionError):
            known(graph, node)

    index_mapping.update_reshape_index_mapping = guarded
    try:
        yield
    finally:
        index_mapping.update_reshape_index_mapping = known


@contextmanager
def _all_trained(model: nn.Module) -> Iterator[None]:
    """Let every parameter require gradients inside the block, so that frozen ones are in the graph."""
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextmanager
def _opaque(model: nn.Module) -> Iterator[None]:
    """Represent each recurrent layer as one operation in the graph, whichever of its outputs is used."""

    def hide(_: nn.Module, args: tuple[object, ...], outputs: object) -> object:
        leaves, tree = _pytree.tree_flatten(outputs)
        rows = next(leaf for leaf in _pytree.tree_leaves(args) if isinstance(leaf, Tensor))
        source = rows if rows.requires_grad else rows.detach().requires_grad_()
        floating = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        made = iter(_Opaque.apply(source, *(leaf.detach() for leaf in floating)))  # type: ignore[no-untyped-call]
        return _pytree.tree_unflatten(
            [next(made) if any(leaf is f for f in floating) else leaf for leaf in leaves], tree
        )

    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, _RECURRENT):
                hooks.enter_context(module.register_forward_hook(hide))
        yield
