"""Which parts of a space change a model's structure, and plans that vary them."""

from collections.abc import Callable, Iterator
from itertools import chain

from paretta.search_spaces.space.holes import Choice, probes
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import MAX_OPTIONS, Knob, Pinned, Space


def structural(space: Space, key: Callable[[Plan], str]) -> tuple[Knob, ...]:
    """Return the knobs that change a plan's structure: those whose two ends differ in `key` where they are asked for.

    A choice counts where any two of its options differ.
    """
    return tuple(knob for knob in space.knobs() if len({key(plan) for plan in varied(space, knob)}) > 1)


def varied(space: Space, knob: Knob, *, options: int = MAX_OPTIONS, points: int = 2) -> list[Plan]:
    """Return plans in which `knob` takes different values, all else being the first that asks for it.

    Args:
        space: which `knob` is of.
        knob: the one to vary.
        options: so many of a choice at most, evenly spaced.
        points: so many of a range, evenly spaced, the ends among them.
    """
    values = probes(knob.hole, options if isinstance(knob.hole, Choice) else points)
    given = dict(reversed(knob.given))
    return [space.fill(Pinned({**given, knob.name: value})) for value in values]


def tried(space: Space, at_most: int) -> Iterator[Plan]:
    """Return corners, and for each knob plans with each of its options or with inner points of its range.

    About `at_most` plans where there are many options: evenly spaced ones of each choice, and fewer inner points.
    """
    knobs = space.knobs()
    options = max(2, at_most // max(1, len(knobs)))
    inner = (plan for knob in knobs for plan in varied(space, knob, options=options, points=min(options, 9)))
    return chain(space.corners(), inner)
