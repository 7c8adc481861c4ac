"""Channels of a model that must go together, found by DepGraph, and how important each of them is."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipelines.bench import Bench, derived_seed
from pipelines.data_pass import Gradients, activities, gradients
from pipelines.importance import Importance, Rows
from pipelines.weights import LAYERS

_log = logging.getLogger("paretta")
Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
HEADS = ("num_heads", "n_heads", "n_head", "num_attention_heads", "heads")


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
        group: DepGraph's.
    """

    names: tuple[str, ...]
    scores: Tensor
    blocks: int
    unit: int
    attentions: tuple[tuple[nn.Module, str], ...]
    group: "torch_pruning.Group"

    def remove(self, parts: Tensor) -> None:
        """Take the channels of these parts out of all layers of the group."""
        if len(parts) == 0:
            return
        size = len(self.scores) * self.unit
        channels = [int(part) * self.unit + offset for part in parts for offset in range(self.unit)]
        self.group.prune(sorted(channel + block * size for channel in channels for block in range(self.blocks)))
        for attention, name in self.attentions:
            setattr(attention, name, len(self.scores) - len(parts))


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
    cannot be told apart: attention with one layer for queries, keys and values, or with extra keys.

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
    names = {module: name for name, module in model.named_modules()}
    generator = torch.Generator().manual_seed(derived_seed(bench.seed, "importance"))
    for group in graph.get_all_groups(ignored_layers=_output_layers(graph), root_module_types=LAYERS):
        makers = [item.dep.target.module for item in group if _makes_outputs(item.dep.handler)]
        attentions = _attentions(group, model, names)
        blocks = _blocks(group)
        if attentions is None or blocks is None:
            told = ", ".join(names[layer] for layer in makers)
            _log.warning("%s keep their width: the heads of this attention cannot be told apart", told)
            continue
        heads = {getattr(attention, name) for attention, name in attentions}
        unit = len(group[0].idxs) // heads.pop() if heads else 1
        scores = _group_scores(group, importance, evidence, generator).view(blocks, -1, unit).mean((0, 2))
        # rank 0 decides: an ulp's difference between machines must not prune different channels
        scores = bench.ranks.broadcast(scores.to(bench.ranks.device)).cpu()
        yield ChannelGroup(tuple(names[layer] for layer in makers), scores, blocks, unit, attentions, group)


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
    that makes more than is read makes all three at once.
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


def _makes_outputs(pruning_function: object) -> bool:
    return pruning_function in (
        torch_pruning.prune_conv_out_channels,
        torch_pruning.prune_linear_out_channels,
        torch_pruning.prune_depthwise_conv_out_channels,
    )
