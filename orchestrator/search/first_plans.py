"""Good plans to begin a search with, before anything is known."""

from dataclasses import dataclass

from paretta.search_spaces.space.holes import Choice, Float, Hole, Int, Label
from paretta.search_spaces.space.space import Recorder, Space

_KINDS = ("quantize", "prune")


def good_plans(space: Space) -> tuple[dict[str, Label], ...]:
    """Return the answers for int8 everywhere, for half the channels, and for both, as far as the space can say them.

    All other knobs take the middle of their range, or their first option.

    >>> space = Space.parse([], [{"kind": "prune", "sparsity": {"float": [0, 0.8]}}, {"kind": "quantize", "bits": 8}])
    >>> good_plans(space)
    ({'prune.sparsity': 0.0}, {'prune.sparsity': 0.5})
    """
    wishes = ({"quantize"}, {"prune"}, {"quantize", "prune"})
    found: dict[str, dict[str, Label]] = {}
    for wish in wishes:
        recorder = Recorder(_Wisher(frozenset(wish)))
        plan = space.fill(recorder)
        if any(stage.get("kind") in wish for stage in plan.stages):
            found.setdefault(plan.fingerprint, dict(recorder.knobs))
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _Wisher:
    """Answers so that the wished stages are there and do what is usual, and the others do as little as they can."""

    wish: frozenset[str]

    def ask(self, name: str, hole: Hole) -> Label:
        kind, _, setting = name.partition(".")
        if kind.partition("@")[0] == "quantize" and "bits" in setting:
            return _nearest(hole, 8.0)
        if kind.partition("@")[0] == "prune" and setting.startswith("sparsity"):
            return _nearest(hole, 0.5 if "prune" in self.wish else 0.0)
        if isinstance(hole, Choice) and {*hole.labels} & {*_KINDS, None}:
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
