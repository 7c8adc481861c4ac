"""Remove whole channels, neurons and attention heads, which makes layers smaller instead of masking them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import gcd, lcm
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import BeforeValidator, Field, PrivateAttr, field_validator, model_validator
from torch import Tensor, nn

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.data.samples import draw
from paretta.pipelines.data.trees import TensorTree, moved
from paretta.pipelines.importance import importance_of, known_importance
from paretta.pipelines.model.attention import unfold_attention
from paretta.pipelines.model.masks import num_dropped
from paretta.pipelines.model.name_patterns import by_pattern
from paretta.pipelines.model.weights import LAYERS, fold_weight_norm
from paretta.pipelines.post_training.gather import LEAST_SAMPLES, too_few
from paretta.pipelines.post_training.norm_statistics import mark_stale
from paretta.pipelines.post_training.reconstruct import reconstruct
from paretta.pipelines.pruning.channel_groups import ChannelGroup, Cut, positions_of, remove, tie_again, tied_parameters
from paretta.pipelines.pruning.dependency_graph import dependency_groups
from paretta.pipelines.pruning.layouts import settled
from paretta.pipelines.pruning.proof import Proof
from paretta.pipelines.pruning.scores import scored
from paretta.pipelines.pruning.sparsity import Scope
from paretta.pipelines.stage import Norms, Shape, Stage
from paretta.pipelines.task import Task
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.results.note import CHANGED_NOTHING, NOT_ASKED, Note

_NUM_TRIED = 4
_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number from 0 to below 1")
    if not 0 <= value < 1:
        raise ValueError(f"must be {'less than 1' if value >= 1 else 'greater than or equal to 0'}")
    return float(value)


def _shares(value: object) -> object:
    if not isinstance(value, Mapping):
        return _share(value)
    if not value:
        raise ValueError("needs at least one pattern")
    return {str(pattern): _share(share) for pattern, share in value.items()}


Sparsities = Annotated[float | dict[str, float], BeforeValidator(_shares)]


@dataclass(frozen=True, slots=True)
class PruningStep:
    """How far pruning in steps has come.

    Args:
        progress: the fraction of the final sparsity to reach.
        rounded: True to round widths as requested; otherwise only so that they can still be rounded at the end.
        parts: the number of parts of each group at the start, by the name of its first layer; set in the first step.
    """

    progress: float = 1.0
    rounded: bool = True
    parts: dict[str, int] = field(default_factory=dict)


class Prune(Stage):
    """Remove the least important output channels of convolutions, neurons of linear layers and heads of attention.

    Layers that must keep equal widths (residual sums, depthwise convolutions) are pruned together, by DepGraph (Fang
    et al., 2023). Output layers keep their width. Channels are removed one by one if that is valid, otherwise in the
    smallest parts that can be removed: whole attention heads (Michel et al., 2019), heads together with the keys that
    they share, or channels that a shuffle, gate or pixel shuffle combines. Validity is tested on training samples:
    every layer of the smaller model must receive the same inputs, and the model must give the same outputs, as the
    original model with the removed channels set to zero where they are read and with norms over the remaining channels.
    Layers that cannot be pruned keep their width, and a warning names them with the reason. Torch's weight norm is
    folded into the weights.
    """

    usual: ClassVar[Mapping[str, float]] = {"sparsity": 0.5}
    idle: ClassVar[Mapping[str, float]] = {"sparsity": 0.0}

    kind: Literal["prune"] = "prune"
    sparsity: Sparsities = Field(
        examples=[0.5],
        description="the share of channels to remove, from 0 to below 1, such as 0.5, or {name pattern: share} such as "
        "{'conv*': 0.5, '*attn*': 0.25}; the first that matches all layers of equal width wins, others stay",
    )
    importance: str = Field(default="l1", description="the name of a score, such as l1")
    scope: Scope = Field(default="layer", description="layer (the same share of each) or global")
    round_to: int = Field(default=1, ge=1, description="the divisor that remaining widths shall have, such as 8")
    num_samples: int = Field(
        default=256, ge=1, description="the training samples for scores that need data, such as 256"
    )
    repair: Literal["none", "least_squares"] = Field(
        default="none",
        description="none, or least_squares to fit what is left to the outputs of before, without labels",
    )
    repair_samples: int = Field(
        default=512, ge=LEAST_SAMPLES, description="the unlabelled samples to repair on, such as 512"
    )
    _current: PruningStep | None = PrivateAttr(None)

    @field_validator("importance")
    @classmethod
    def _known(cls, name: str) -> str:
        return known_importance(name)

    @model_validator(mode="after")
    def _one_share(self) -> Self:
        if self.scope == "global" and isinstance(self.sparsity, dict):
            raise ValueError("scope global needs one share for all layers; set `scope` to layer or give a number")
        return self

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model`, pruned in place and equally on all ranks.

        Raises:
            WrongInput: a pattern matches no layer, or only some of those whose widths are tied.
        """
        if self._nothing:
            if isinstance(self.sparsity, dict):  # a wrong name is told at a share of 0 too
                by_pattern(self.sparsity, _layer_names(model), "prune.sparsity")
            if self._current is None:
                bench.note(Note(self.kind, NOT_ASKED, verdict=CHANGED_NOTHING))
            return model
        fold_weight_norm(unfold_attention(model.to(bench.ranks.device).eval()))
        example = moved(bench.task.example_input, bench.ranks.device)
        proof = Proof(model, _samples(bench), bench.ranks)
        found = settled(dependency_groups(model, example), proof, self._asks_for)
        shares = self._shares([*(group.names for group in found.groups), *found.kept])
        chosen = [(group, share) for group, share in zip(found.groups, shares, strict=False) if share > 0]
        importance = importance_of(self.importance, "prune.importance")
        groups = scored([group for group, _ in chosen], model, importance, bench, self.num_samples)
        doomed = self._doomed(groups, [share for _, share in chosen])
        cuts = [list(group.cuts(parts.tolist())) for group, parts in zip(groups, doomed, strict=True)]
        accepted, refused = proof.sound(cuts)
        kept = {**found.kept, **{groups[index].names: reason for index, reason in refused.items()}}
        for names, reason in _together({names: why for names, why in kept.items() if self._asks_for(names)}):
            bench.note(Note(self.kind, f"keep their width: {reason}", names))
        removed = [cut for index in accepted for cut in cuts[index] if cut.parts]
        if not removed and self._current is None:
            reason = "no selected layer can lose that many channels"
            bench.note(Note(self.kind, reason, verdict=CHANGED_NOTHING))
        reference = deepcopy(model) if self.repair == "least_squares" and removed else None
        left = _left_outputs(removed, model)
        shared = tied_parameters(model)
        remove(removed)
        tie_again(shared)
        if reference is not None:
            reconstruct(model, reference, left, bench, num_samples=self.repair_samples)
        elif removed:
            mark_stale(model)
        return model

    def step(self, current: PruningStep) -> Self:
        """Return the stage that prunes one step."""
        stage = self.model_copy()
        stage._current = current
        return stage

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Report a `prune` stage after one that works on single weights."""
        holders = [stage.kind for stage in earlier if stage.holds_values]
        if holders and not self._nothing:
            return f"cannot remove channels after `{holders[0]}`, which works on single weights; put `prune` before it"
        return None

    def unmet(self, task: Task) -> str | None:
        """Report too few samples to repair on."""
        return too_few(task, fits=True) if self.repair == "least_squares" and not self._nothing else None

    def advice(self, earlier: Sequence[Stage], later: Sequence[Stage]) -> str | None:
        """Advise to recalibrate norms if nothing does so later."""
        if self.norms != "stale" or any(stage.norms == "fresh" for stage in later):
            return None
        return (
            "`prune` leaves batch norms the statistics of the channels that it removed; put `recalibrate_norms`, or a "
            "training, after it, or give it `repair: least_squares` (on a ResNet-8 at 50 %: 89.7 instead of 27.7 %)"
        )

    @property
    def norms(self) -> Norms:
        """Norms keep statistics of outputs that were computed from more channels, unless these are repaired."""
        return "stale" if self.repair == "none" and not self._nothing else "kept"

    @property
    def shape(self) -> Shape:
        """The widths depend on the weights only with scope ``global``."""
        return "settled" if self.scope == "layer" else "chosen by value"

    def sketch(self) -> Self:
        """Return the stage with a score that needs no data, and without repair."""
        return self.model_copy(update={"importance": "l1", "repair": "none"})

    def words(self) -> str:
        """Describe the stage: how much is removed, by which score."""
        repaired = ", repaired by least squares" if self.repair == "least_squares" else ""
        if isinstance(self.sparsity, dict):
            shares = ", ".join(f"{share:.0%} of {pattern}" for pattern, share in self.sparsity.items())
            return f"prune {shares} by {self.importance}{repaired}"
        return f"prune {self.sparsity:.0%} of channels by {self.importance}{repaired}"

    @property
    def _nothing(self) -> bool:
        return not any(self.sparsity.values()) if isinstance(self.sparsity, dict) else self.sparsity == 0

    def _asks_for(self, names: Sequence[str]) -> bool:
        """Return True if any of these layers is to be pruned."""
        patterns = self.sparsity if isinstance(self.sparsity, dict) else {"*": self.sparsity}
        first = (next((share for p, share in patterns.items() if fnmatchcase(name, p)), 0.0) for name in names)
        return any(share > 0 for share in first)

    def _shares(self, groups: Sequence[Sequence[str]]) -> list[float]:
        if isinstance(self.sparsity, dict):
            return shares_by_pattern(self.sparsity, groups)
        return [self.sparsity] * len(groups)

    def _doomed(self, groups: Sequence[ChannelGroup], final: Sequence[float]) -> list[Tensor]:
        """Choose the parts to remove from each group."""
        current = self._current or PruningStep()
        starts = [current.parts.setdefault(group.names[0], len(group.scores)) for group in groups]
        ends = self._left(groups, final, starts, 1.0, [self._step(group) for group in groups])
        if current.progress < 1:
            steps = [self._step(group) if current.rounded else group.step for group in groups]
            ends = list(map(max, ends, self._left(groups, final, starts, current.progress, steps)))
        return [_lowest(group.scores, len(group.scores) - end) for group, end in zip(groups, ends, strict=True)]

    def _left(
        self,
        groups: Sequence[ChannelGroup],
        final: Sequence[float],
        starts: Sequence[int],
        progress: float,
        steps: Sequence[int],
    ) -> list[int]:
        """Return how many parts of each group are left at this point, in multiples of `steps`."""
        if self.scope == "global":
            assert not isinstance(self.sparsity, dict)
            shares = _global_shares(groups, starts, progress * self.sparsity)
        else:
            shares = [progress * share for share in final]
        counts = zip(groups, starts, shares, steps, strict=True)
        return [min(start - num_removed(start, share, step), len(group.scores)) for group, start, share, step in counts]

    def _step(self, group: ChannelGroup) -> int:
        """Return the divisor of the number of parts that makes the layer's width a multiple of `round_to`."""
        return lcm(self.round_to // gcd(self.round_to, group.unit), group.step)


def _together(kept: Mapping[tuple[str, ...], str]) -> Iterable[tuple[tuple[str, ...], str]]:
    """Return the layers that keep their width for one reason, with that of the first of them.

    Reasons that differ in numbers alone, such as those of a transformer's blocks, are one.

    >>> list(_together({("block.0",): "off by 0.2", ("block.1",): "off by 1e-3", ("head",): "no input"}))
    [(('block.0', 'block.1'), 'off by 0.2'), (('head',), 'no input')]
    """
    groups: dict[str, tuple[tuple[str, ...], str]] = {}
    for names, reason in kept.items():
        kind = _NUMBER.sub("#", reason)
        before, first = groups.get(kind, ((), reason))
        groups[kind] = ((*before, *names), first)
    return groups.values()


def _left_outputs(removed: Sequence[Cut], model: nn.Module) -> dict[str, list[int]]:
    """Return the outputs that are left of each layer that makes fewer."""
    names = {module: name for name, module in model.named_modules()}
    return {
        names[member.module]: sorted({*range(member.width)} - {*gone})
        for member, gone in positions_of(removed, "makes")
        if not member.parameter
    }


def num_removed(width: int, share: float, step: int) -> int:
    """Return how many of `width` to remove, so that the nearest multiple of `step`, and at least one step, remains."""
    kept = width - num_dropped(width, share)
    return max(width - max(step * round(kept / step), step), 0)


def shares_by_pattern(shares: Mapping[str, float], groups: Sequence[Sequence[str]]) -> list[float]:
    """Return for each group of tied layers the share of the first pattern that matches all of them, else 0.

    Raises:
        WrongInput: a pattern matches no layer, or only some of those that must keep equal widths.

    >>> shares_by_pattern({"*attn*": 0.5}, [["attn.q", "attn.k"], ["attn.out", "ffn"]])
    [0.5, 0.0]
    """
    by_pattern(shares, [name for names in groups for name in names], "prune.sparsity")
    for pattern in shares:
        if not any(_matches_all(pattern, names) for names in groups):
            tied = next(names for names in groups if any(fnmatchcase(name, pattern) for name in names))
            rule = f"{pattern} matches only some of the layers whose widths are tied: {', '.join(tied)}"
            raise WrongInput(Problem("prune.sparsity", rule, hint="give a pattern that matches all of them"))
    return [next((s for pattern, s in shares.items() if _matches_all(pattern, names)), 0.0) for names in groups]


def _matches_all(pattern: str, names: Sequence[str]) -> bool:
    return all(fnmatchcase(name, pattern) for name in names)


def _global_shares(groups: Sequence[ChannelGroup], starts: Sequence[int], sparsity: float) -> list[float]:
    """Return each group's removed share of its initial parts if the globally lowest scores are removed."""
    everything = torch.cat([group.scores for group in groups]) if groups else torch.empty(0)
    doomed = torch.zeros(len(everything))
    gone = sum(starts) - len(everything)
    doomed[_lowest(everything, max(num_dropped(sum(starts), sparsity) - gone, 0))] = 1.0
    parts = torch.split(doomed, [len(group.scores) for group in groups])
    return [1 - (len(part) - float(part.sum())) / start for part, start in zip(parts, starts, strict=True)]


def _lowest(scores: Tensor, count: int) -> Tensor:
    return torch.argsort(scores, stable=True)[:count]


def _layer_names(model: nn.Module) -> list[str]:
    """Return the names of the layers whose widths may shrink, those inside attention included."""
    modules = unfold_attention(deepcopy(model)).named_modules()
    return [name for name, module in modules if isinstance(module, LAYERS)]


def _samples(bench: Bench) -> TensorTree:
    """Return a few real inputs of the model, a tree of [n, ...]."""
    chosen = draw(bench.task.statistics_samples, _NUM_TRIED, derived_seed(bench.seed, "tried samples"))
    return moved(bench.task.calibration_inputs(chosen), bench.ranks.device)
