"""Which parts of a space change a model's structure, and plans that vary them."""

from collections.abc import Callable

from paretta.search_spaces.space.holes import Choice
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import Knob, Pinned, Space


def structural(space: Space, key: Callable[[Plan], str]) -> tuple[Knob, ...]:
    """Return the knobs that change a plan's structure: those whose two ends differ in `key` where they are asked for.

    A choice counts where any two of its options differ.
    """
    return tuple(knob for knob in space.knobs() if len({key(plan) for plan in varied(space, knob)}) > 1)


def varied(space: Space, knob: Knob) -> list[Plan]:
    """Return a plan for each option of a choice, or for both ends of a range, all else the first that asks for it."""
    hole = knob.hole
    values = hole.labels if isinstance(hole, Choice) else (hole.low, hole.high)
    return [space.fill(Pinned({**dict(reversed(knob.given)), knob.name: value})) for value in values]
