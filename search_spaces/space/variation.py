"""Plans that vary the knobs of a space, and the knobs that change a model's structure."""

from collections.abc import Callable, Iterator
from itertools import chain

from paretta.search_spaces.space.holes import Choice, probes
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import MAX_OPTIONS, Knob, Pinned, Space


def structural(space: Space, key: Callable[[Plan], str]) -> tuple[Knob, ...]:
    """Return the knobs that change a plan's structure: those whose ends give plans with different `key`.

    A choice is structural if any two of its options differ.
    """
    return tuple(knob for knob in space.knobs() if len({key(plan) for plan in varied(space, knob)}) > 1)


def varied(space: Space, knob: Knob, *, options: int = MAX_OPTIONS, points: int = 2) -> list[Plan]:
    """Return plans that differ only in the value of `knob`; other knobs take the first value that reaches it.

    Args:
        space: the space that `knob` belongs to.
        knob: the knob to vary: over the options of a choice or points of a range, evenly spaced, including the ends.
        options: maximum number of options of a choice.
        points: maximum number of points of a range.
    """
    values = probes(knob.hole, options if isinstance(knob.hole, Choice) else points)
    given = dict(reversed(knob.given))
    return [space.fill(Pinned({**given, knob.name: value})) for value in values]


def tried(space: Space, at_most: int) -> Iterator[Plan]:
    """Return the corners, and for each knob plans with each of its options or with inner points of its range.

    With many options, about `at_most` plans: evenly spaced options of each choice, and fewer inner points.
    """
    knobs = space.knobs()
    options = max(2, at_most // max(1, len(knobs)))
    inner = (plan for knob in knobs for plan in varied(space, knob, options=options, points=min(options, 9)))
    return chain(space.corners(), inner)
