"""Parts of a search space that no trial has looked at: options, and corners of two ranges."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Final

from paretta.search_spaces.space.holes import Choice, Float, Hole, Int

_PER_PART: Final = 3  # trials that evenly drawn ones would have put into a part before its lack is told
_MOST_TOLD: Final = 2


def unexplored(holes: Mapping[str, Hole], trials: Sequence[Mapping[str, object]]) -> list[str]:
    """Describe what none of the trials has tried, at most two things.

    A corner is the outer third of one range together with that of another, on a logarithmic scale if the range has one.

    Args:
        holes: of the space, by the name of the knob.
        trials: the knobs of each trial, by name; those of branches that were not taken are left out.

    >>> tried = [{"a": number / 26, "b": number / 26} for number in range(27)]
    >>> for line in unexplored({"a": Float(0, 1), "b": Int(0, 1)}, tried):
    ...     print(line)
    No trial has a of at most 0.333 with b of at least 0.667.
    No trial has a of at least 0.667 with b of at most 0.333.
    """
    return [*_options(holes, trials), *_corners(holes, trials)][:_MOST_TOLD]


def _options(holes: Mapping[str, Hole], trials: Sequence[Mapping[str, object]]) -> Iterator[str]:
    for name, hole in holes.items():
        if not isinstance(hole, Choice):
            continue
        tried = [str(trial[name]) for trial in trials if name in trial]
        if len(tried) >= _PER_PART * len(hole.labels):
            yield from (f"No trial has {name} = {label}." for label in hole.labels if str(label) not in tried)


def _corners(holes: Mapping[str, Hole], trials: Sequence[Mapping[str, object]]) -> Iterator[str]:
    ranges = [(name, hole) for name, hole in holes.items() if isinstance(hole, Float | Int)]
    for (one, first), (other, second) in combinations(ranges, 2):
        pairs = [(trial.get(one), trial.get(other)) for trial in trials]
        tried = [(a, b) for a, b in pairs if isinstance(a, int | float) and isinstance(b, int | float)]
        if len(tried) < 9 * _PER_PART:
            continue
        for (bound, sign), (limit, turn) in product(_ends(first), _ends(second)):
            if not any(sign * a >= sign * bound and turn * b >= turn * limit for a, b in tried):
                words = {1: "at least", -1: "at most"}
                yield f"No trial has {one} of {words[sign]} {bound:.3g} with {other} of {words[turn]} {limit:.3g}."


def _ends(hole: Float | Int) -> tuple[tuple[float, int], tuple[float, int]]:
    """Return where the lower and the upper third of a range end, each with the direction that leads into it."""
    if hole.log:
        low, high = math.log(hole.low), math.log(hole.high)
        third = (high - low) / 3
        return (math.exp(low + third), -1), (math.exp(high - third), 1)
    third = (hole.high - hole.low) / 3
    return (hole.low + third, -1), (hole.high - third, 1)
