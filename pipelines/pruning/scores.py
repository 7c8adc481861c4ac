"""Score the parts of channel groups by importance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.importance import Importance, Rows, sound_scores
from paretta.pipelines.model.weights import LAYERS
from paretta.pipelines.pruning.channel_groups import ChannelGroup, Member
from paretta.pipelines.pruning.gradient_pass import Gradients, activities, gradients


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Data-dependent statistics of the layers; empty if the importance needs none."""

    gradients: Gradients = field(default_factory=Gradients)
    activities: dict[nn.Module, Tensor] = field(default_factory=dict)

    @classmethod
    def gathered(cls, model: nn.Module, importance: Importance, bench: Bench, count: int) -> "_Evidence":
        """Collect the statistics that the importance needs from `count` training samples (collective)."""
        return cls(
            gradients(model, bench, count) if importance.needs_gradient else Gradients(),
            activities(model, bench, count) if importance.needs_activity else {},
        )


def scored(
    groups: Sequence[ChannelGroup], model: nn.Module, importance: Importance, bench: Bench, count: int
) -> list[ChannelGroup]:
    """Return the groups with their scores, which are equal on all ranks (collective).

    Args:
        groups: of `model`, all to be pruned.
        model: in evaluation mode on the ranks' device.
        importance: scores the channels.
        bench: provides task, ranks and seed.
        count: training samples for importances that need data.
    """
    evidence = _Evidence.gathered(model, importance, bench, count) if groups else _Evidence()
    generator = torch.Generator().manual_seed(derived_seed(bench.seed, "importance"))

    def with_scores(group: ChannelGroup) -> ChannelGroup:
        scores = _group_scores(group, importance, evidence, generator).to(bench.ranks.device)
        # rank 0 decides: a rounding difference between machines must not prune different channels
        scores = bench.ranks.broadcast(scores).cpu()
        return replace(group, scores=scores, tied=tuple(with_scores(heads) for heads in group.tied))

    return [with_scores(group) for group in groups]


def _group_scores(
    group: ChannelGroup, importance: Importance, evidence: _Evidence, generator: torch.Generator
) -> Tensor:
    """Return the mean over the group's layers of each layer's scores, normalised by their mean, [parts].

    The normalisation makes layers of different size and scale comparable, within a group and over the whole model.
    """
    gates = evidence.gradients.gates
    activity = _gathered(group, evidence.activities.get)
    norm_scale = _gathered(group, lambda module: module.weight if isinstance(module, _BatchNorm) else None)
    gate = _gathered(group, lambda module: gates.get(module) if isinstance(module, _BatchNorm) else None)
    totals, count = torch.zeros(group.num_parts), 0
    for member in group.members:
        layer = member.module
        if member.role != "makes" or not isinstance(layer, LAYERS):
            continue
        spread = [_spread(values, member) for values in (activity, norm_scale)]
        spread.append(gates.get(layer) if gate is None else _spread(gate, member))
        signed, absolute = evidence.gradients.of(cast(nn.Parameter, layer.weight))
        rows = Rows(layer.weight.detach().flatten(1), signed.flatten(1), generator, absolute.flatten(1), *spread)
        found = sound_scores(importance, importance.scores(rows), rows.weight[:, 0])
        scores = _per_part(found.cpu(), member)
        totals += scores / (scores.mean() + 1e-12)
        count += 1
    return totals / max(count, 1)


def _gathered(group: ChannelGroup, values_of: Callable[[nn.Module], Tensor | None]) -> Tensor | None:
    """Return the mean over the group's modules of a value per part, [parts]; None if no module has one."""
    found = []
    for member in group.members:
        values = values_of(member.module) if member.role != "makes" and not member.parameter else None
        if values is not None:
            found.append(_per_part(values.detach().float().cpu(), member))
    return torch.stack(found).mean(0) if found else None


def _per_part(values: Tensor, member: Member) -> Tensor:
    """Return the mean of a member's values at each part's positions, [parts]; 0 for a part without positions."""
    return torch.stack([values[list(p)].mean() if p else values.new_zeros(()) for p in member.positions])


def _spread(values: Tensor | None, member: Member) -> Tensor | None:
    """Expand values per part to a layer's rows, [out]."""
    if values is None:
        return None
    rows = torch.zeros(member.width)
    for value, positions in zip(values, member.positions, strict=True):
        rows[list(positions)] = value
    return rows.to(cast(Tensor, member.module.weight).device)
