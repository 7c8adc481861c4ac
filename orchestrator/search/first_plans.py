"""Good first plans for a search that has no results yet."""

from collections.abc import Mapping
from dataclasses import dataclass

from paretta.pipelines.stage import Stage
from paretta.search_spaces.registry import STAGES
from paretta.search_spaces.space.holes import Choice, Float, Hole, Int, Label
from paretta.search_spaces.space.space import Recorder, Space, kinds_of


def good_plans(space: Space) -> tuple[dict[str, Label], ...]:
    """Return knobs with the stages' usual settings: each such stage alone, the last one first, and then all of them.

    A space of pruning and quantization starts with int8 everywhere, then half the channels, then both, as far as the
    space allows. Stages that are not selected do as little as they can. All other knobs take the middle of their range
    or their first option.

    >>> space = Space.parse([], [{"kind": "prune", "sparsity": {"float": [0, 0.8]}}, {"kind": "quantize", "bits": 8}])
    >>> good_plans(space)
    ({'prune.sparsity': 0.0}, {'prune.sparsity': 0.5})
    """
    classes = {kind: STAGES.load_class(kind, Stage) for kind in kinds_of(space.steps)}  # type: ignore[type-abstract]
    usual = {kind: stage for kind, stage in classes.items() if stage.usual}
    wishes = [{kind} for kind in reversed(usual)] + [{*usual}]
    found: dict[str, dict[str, Label]] = {}
    for wish in wishes:
        recorder = Recorder(_UsualSettings(frozenset(wish), usual))
        plan = space.fill(recorder)
        if any(stage.get("kind") in wish for stage in plan.stages):
            found.setdefault(plan.fingerprint, dict(recorder.knobs))
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _UsualSettings:
    """Gives the wished stages their usual settings and lets the others do as little as they can."""

    wish: frozenset[str]
    usual: Mapping[str, type[Stage]]

    def ask(self, name: str, hole: Hole) -> Label:
        owner, _, setting = name.partition(".")
        for kind, stage in self.usual.items():
            if owner.partition("@")[0] == kind.rpartition(":")[2]:
                answers = stage.usual if kind in self.wish else stage.idle
                for beginning, value in answers.items():
                    if setting.startswith(beginning):
                        return _nearest(hole, value)
        if isinstance(hole, Choice) and {*hole.labels} & {*self.usual, None}:
            return next((label for label in hole.labels if label in self.wish), _least(hole))
        return _middle(hole)


def _least(hole: Choice) -> Label:
    return None if None in hole.labels else hole.labels[0]


def _nearest(hole: Hole, target: float) -> Label:
    if isinstance(hole, Choice):
        numbers = [label for label in hole.labels if isinstance(label, int | float) and not isinstance(label, bool)]
        return min(numbers, key=lambda label: abs(label - target)) if numbers else hole.labels[0]
    if isinstance(hole, Float):
        return min(max(target, hole.low), hole.high)
    return min(range(hole.low, hole.high + 1, hole.step), key=lambda value: abs(value - target))


def _middle(hole: Hole) -> Label:
    if isinstance(hole, Choice):
        return hole.labels[0]
    middle = (hole.low * hole.high) ** 0.5 if hole.log else (hole.low + hole.high) / 2
    return _nearest(hole, middle) if isinstance(hole, Int) else float(f"{middle:.6g}")
