"""Channels of a model that must go together, found by DepGraph, and how important each of them is."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import lcm
from typing import cast

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.importance import Importance, Rows
from paretta.pipelines.model.weights import LAYERS
from paretta.pipelines.pruning.fused_attention import HEADS, FusedAttention, fused_attention, proven
from paretta.pipelines.pruning.gradient_pass import Gradients, activities, gradients

_log = logging.getLogger("paretta")
Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear


@dataclass(frozen=True, slots=True, eq=False)
class ChannelGroup:
    """Layers whose widths change together, and a score for each part that may go.

    A part is one channel, or all channels of an attention head; in grouped convolutions, that many in each block.

    Args:
        names: of the layers that make the channels.
        scores: [parts], higher is kept.
        blocks: into how many equal blocks the channels fall.
        unit: how many neighbouring channels make a part.
        attentions: modules and the name of their number of heads, which follows the number of parts.
        group: what takes the channels out: DepGraph's, or a fused attention.
        tied: fused attentions that have as many heads as fit into these channels, and lose their weakest with them.
    """

    names: tuple[str, ...]
    scores: Tensor
    blocks: int
    unit: int
    attentions: tuple[tuple[nn.Module, str], ...]
    group: "torch_pruning.Group | FusedAttention"
    tied: "tuple[ChannelGroup, ...]" = ()

    @property
    def step(self) -> int:
        """The number of parts that is left must be a multiple of this."""
        return lcm(*(attention.unit for attention in self.tied))

    def followed_by(self, heads: "Sequence[ChannelGroup]") -> "ChannelGroup":
        """Return the group with `heads` tied to it, whose layers then are among those of equal width."""
        if not heads or self.unit * self.blocks != 1:
            return self
        return replace(self, names=sum((group.names for group in heads), self.names), tied=tuple(heads))

    def remove(self, parts: Tensor) -> None:
        """Take the channels of these parts out of all layers of the group."""
        if len(parts) == 0:
            return
        size = len(self.scores) * self.unit
        channels = [int(part) * self.unit + offset for part in parts for offset in range(self.unit)]
        self.group.prune(sorted(channel + block * size for channel in channels for block in range(self.blocks)))
        for attention, name in self.attentions:
            setattr(attention, name, len(self.scores) - len(parts))
        for heads in self.tied:
            num_left = (len(self.scores) - len(parts)) // heads.unit
            heads.remove(torch.argsort(heads.scores, stable=True)[: len(heads.scores) - num_left])


@dataclass(frozen=True, slots=True)
class Evidence:
    """What data says of the layers, empty where the importance asks for nothing."""

    gradients: Gradients = field(default_factory=Gradients)
    activities: dict[nn.Module, Tensor] = field(default_factory=dict)

    @classmethod
    def gathered(cls, model: nn.Module, importance: Importance, bench: Bench, count: int) -> "Evidence":
        """Pass `count` training samples through the model as far as the importance needs it (collective)."""
        return cls(
            gradients(model, bench, count) if importance.needs_gradient else Gradients(),
            activities(model, bench, count) if importance.needs_activity else {},
        )


def channel_groups(model: nn.Module, importance: Importance, bench: Bench, count: int) -> Iterator[ChannelGroup]:
    """Yield every group of channels that may go, with scores that are equal on all ranks (collective).

    Groups come in the order of the graph. The layers that make the model's output are not among them, nor is what
    cannot be told apart: attention with extra keys, or whose forward insists on its number of heads.

    Args:
        model: in evaluation mode on the ranks' device.
        importance: scores the channels.
        bench: gives task, ranks and seed.
        count: training samples for importances that need data.
    """
    evidence = Evidence.gathered(model, importance, bench, count)
    with warnings.catch_warnings():
        # it prunes parameters outside of layers, such as position tables, at their last axis; that is right here
        warnings.filterwarnings("ignore", "Unwrapped parameters detected", UserWarning)
        example = bench.task.example_input.to(bench.ranks.device)
        graph = torch_pruning.DependencyGraph().build_dependency(model, example)
    judge = _Judge(model, importance, evidence, bench)
    groups = list(graph.get_all_groups(ignored_layers=_output_layers(graph), root_module_types=LAYERS))
    fused = list(_fused_attentions(groups, model, example))
    alone = {id(group): attention for group, attention in fused if not attention.tied}
    tied = [(g, attention) for g, attention in fused if attention.tied and _is_read(attention.qkv, groups)]
    for group in groups:
        if any(group is other for other, _ in tied):
            continue  # it comes with the channels that it reads
        channels = judge.heads(group, alone[id(group)]) if id(group) in alone else judge.channels(group)
        if channels is None:
            told = ", ".join(judge.names[layer] for layer in _makers(group))
            _log.warning("%s keep their width: heads cannot be taken out of this attention", told)
            continue
        yield channels.followed_by([judge.heads(*pair) for pair in tied if pair[1].qkv in _readers(group)])


class _Judge:
    """Makes channel groups of DepGraph's."""

    def __init__(self, model: nn.Module, importance: Importance, evidence: Evidence, bench: Bench) -> None:
        """Score by `importance`; what it needs of data is `evidence`, and ranks and seed are the bench's."""
        self.model, self.importance, self.evidence, self.ranks = model, importance, evidence, bench.ranks
        self.names = {module: name for name, module in model.named_modules()}
        self.generator = torch.Generator().manual_seed(derived_seed(bench.seed, "importance"))

    def channels(self, group: "torch_pruning.Group") -> ChannelGroup | None:
        """Return the channels, or heads of attention with layers of their own; None where they cannot be told apart."""
        attentions, blocks = _attentions(group, self.model, self.names), _blocks(group)
        if attentions is None or blocks is None:
            return None
        heads = {getattr(attention, name) for attention, name in attentions}
        unit = len(group[0].idxs) // heads.pop() if heads else 1
        names = tuple(self.names[layer] for layer in _makers(group))
        return ChannelGroup(names, self._scores(group, blocks, unit), blocks, unit, attentions, group)

    def heads(self, group: "torch_pruning.Group", attention: FusedAttention) -> ChannelGroup:
        """Return the heads of a fused attention."""
        scores = self._scores(group, 3, attention.head_width)
        number = ((attention.module, attention.heads),)
        return ChannelGroup((self.names[attention.qkv],), scores, 3, attention.head_width, number, attention)

    def _scores(self, group: "torch_pruning.Group", blocks: int, unit: int) -> Tensor:
        scores = _group_scores(group, self.importance, self.evidence, self.generator)
        # rank 0 decides: an ulp's difference between machines must not prune different channels
        return self.ranks.broadcast(scores.view(blocks, -1, unit).mean((0, 2)).to(self.ranks.device)).cpu()


def _fused_attentions(
    groups: Sequence["torch_pruning.Group"], model: nn.Module, example: Tensor
) -> Iterator[tuple["torch_pruning.Group", FusedAttention]]:
    """Yield the groups that are fused attentions which can lose heads."""
    looks = ((group, fused_attention(model, _makers(group), _readers(group))) for group in groups)
    found = {attention.qkv: (group, attention) for group, attention in looks if attention}
    for attention in proven(model, example, [attention for _, attention in found.values()]):
        (group, _), inner = found[attention.qkv], attention.output.in_features
        for index, item in enumerate(group):
            if item.dep.target.module is attention.output:
                # DepGraph does not follow three parts into one
                group[index] = item._replace(idxs=list(range(inner)) * 3)
                group[index].root_idxs = list(range(3 * inner))
        yield group, attention


def _output_layers(graph: "torch_pruning.DependencyGraph") -> list[nn.Module]:
    """Find the layers from which no other layer follows: their channels are the model's outputs."""
    return [
        module
        for module, node in cast(Mapping[nn.Module, "torch_pruning.dependency.Node"], graph.module2node).items()
        if isinstance(module, LAYERS) and not _reaches_layer(node)
    ]


def _reaches_layer(start: "torch_pruning.dependency.Node") -> bool:
    seen, waiting = {start}, list(start.outputs)
    while waiting:
        node = waiting.pop()
        if isinstance(node.module, (*LAYERS, nn.MultiheadAttention, nn.RNNBase)):
            return True
        waiting += [follower for follower in node.outputs if follower not in seen]
        seen.add(node)
    return False


def _blocks(group: "torch_pruning.Group") -> int | None:
    """Return into how many equal blocks the channels fall (grouped convolutions, group norm); None to leave them."""
    blocks = 1
    for dependency, _ in group:
        module = dependency.target.module
        if isinstance(module, nn.MultiheadAttention):
            return None
        if isinstance(module, nn.GroupNorm):
            blocks = max(blocks, module.num_groups)
        if isinstance(module, LAYERS[:3]) and 1 < module.groups < max(module.in_channels, module.out_channels):
            blocks = max(blocks, module.groups)
    return blocks


def _attentions(
    group: "torch_pruning.Group", model: nn.Module, names: Mapping[nn.Module, str]
) -> tuple[tuple[nn.Module, str], ...] | None:
    """Return the attention modules whose heads these channels are; None where heads cannot be told apart.

    Queries, keys and values of one module are made by two or more of its layers and read by another. A single layer
    that makes more than is read makes all three at once, see `paretta.pipelines.pruning.fused_attention`.
    """
    makers: dict[nn.Module, list[Layer]] = {}
    readers: dict[nn.Module, list[Layer]] = {}
    for item in group:
        layer = item.dep.target.module
        if isinstance(layer, LAYERS):
            parent = model.get_submodule(names[layer].rpartition(".")[0])
            (makers if _makes_outputs(item.dep.handler) else readers).setdefault(parent, []).append(layer)
    found = []
    for parent, layers in makers.items():
        name = next((name for name in HEADS if isinstance(getattr(parent, name, None), int)), None)
        if name is None or parent not in readers:
            continue
        if len(layers) >= 2:
            found.append((parent, name))
        elif isinstance(layers[0], nn.Linear) and layers[0].out_features > readers[parent][0].weight.shape[1]:
            return None
    return tuple(found)


def _group_scores(
    group: "torch_pruning.Group", importance: Importance, evidence: Evidence, generator: torch.Generator
) -> Tensor:
    """Return the mean over the group's layers of each layer's scores, which are divided by their own mean.

    The division makes layers of different size and scale comparable, within a group and over the whole model.
    """
    width = len(group[0].idxs)
    activity = _gathered(group, width, evidence.activities.get)
    norm_scale = _gathered(group, width, lambda layer: layer.weight if isinstance(layer, _BatchNorm) else None)
    gates = evidence.gradients.gates
    gate = _gathered(group, width, lambda layer: gates.get(layer) if isinstance(layer, _BatchNorm) else None)
    totals, counts = torch.zeros(width), torch.zeros(width)
    for item in group:
        layer = item.dep.target.module
        if not isinstance(layer, LAYERS) or not _makes_outputs(item.dep.handler):
            continue
        spread = [_spread(values, item, layer) for values in (activity, norm_scale)]
        spread.append(gates.get(layer) if gate is None else _spread(gate, item, layer))
        signed, absolute = evidence.gradients.of(cast(nn.Parameter, layer.weight))
        rows = Rows(layer.weight.detach().flatten(1), signed.flatten(1), generator, absolute.flatten(1), *spread)
        scores = importance.scores(rows)[item.idxs].float().cpu()
        roots = torch.as_tensor(item.root_idxs)
        totals.index_add_(0, roots, scores / (scores.mean() + 1e-12))
        counts.index_add_(0, roots, torch.ones(len(roots)))
    return totals / counts.clamp_min(1)


def _gathered(
    group: "torch_pruning.Group", width: int, values_of: Callable[[nn.Module], Tensor | None]
) -> Tensor | None:
    """Return the mean over the group's modules of a value per channel, [width]; None where no module has one."""
    totals, counts = torch.zeros(width), torch.zeros(width)
    for item in group:
        if isinstance(item.dep.target.module, LAYERS) and _makes_outputs(item.dep.handler):
            continue
        values = values_of(item.dep.target.module)
        if values is not None:
            roots = torch.as_tensor(item.root_idxs)
            totals.index_add_(0, roots, values.detach().float().cpu()[item.idxs])
            counts.index_add_(0, roots, torch.ones(len(roots)))
    return totals / counts.clamp_min(1) if bool(counts.any()) else None


def _spread(values: Tensor | None, item: "torch_pruning.dependency.GroupItem", layer: Layer) -> Tensor | None:
    """Lay values per channel of the group out over a layer's rows, [out]."""
    if values is None:
        return None
    rows = torch.zeros(len(layer.weight))
    rows[item.idxs] = values[torch.as_tensor(item.root_idxs)]
    return rows.to(layer.weight.device)


def _makers(group: "torch_pruning.Group") -> list[nn.Module]:
    return [item.dep.target.module for item in group if _makes_outputs(item.dep.handler)]


def _readers(group: "torch_pruning.Group") -> list[nn.Module]:
    layers = [item for item in group if isinstance(item.dep.target.module, LAYERS)]
    return [item.dep.target.module for item in layers if not _makes_outputs(item.dep.handler)]


def _is_read(layer: nn.Module, groups: Sequence["torch_pruning.Group"]) -> bool:
    return any(layer in _readers(group) for group in groups)


def _makes_outputs(pruning_function: object) -> bool:
    return pruning_function in (
        torch_pruning.prune_conv_out_channels,
        torch_pruning.prune_linear_out_channels,
        torch_pruning.prune_depthwise_conv_out_channels,
    )
