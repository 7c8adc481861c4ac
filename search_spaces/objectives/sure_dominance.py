"""Dominance beyond measurement error: a strict partial order on points with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.pareto import Losses
from paretta.search_spaces.objectives.reading import Reading


@dataclass(frozen=True, slots=True)
class Spread:
    """Losses with their intervals, smaller is better; an exact value is its own interval.

    Args:
        low, value, high: [n, m], with ``low <= value <= high``.
    """

    low: Losses
    value: Losses
    high: Losses

    @classmethod
    def of(cls, readings: Sequence[Sequence[Reading]], objectives: Sequence[Objective]) -> "Spread":
        """Convert readings [n][m], all of them measured, into losses, of which smaller is better."""
        ends = np.array([[_ends(r, o) for r, o in zip(row, objectives, strict=True)] for row in readings])
        ends = ends.reshape(len(readings), len(objectives), 3)
        return cls(ends[..., 0], ends[..., 1], ends[..., 2])

    def dominates(self, rows: NDArray[np.intp], row: int) -> NDArray[np.bool_]:
        """Mark which of `rows` [k] surely dominate `row`, [k].

        A surely dominates B if in every objective neither A's estimate nor either end of its interval is worse than
        B's, and in at least one objective A's whole interval is better than B's whole interval.

        So no point surely dominates itself; sure dominance is transitive and implies plain dominance of the estimates.
        Two points whose intervals overlap in every objective never dominate each other. Intervals are treated as
        independent. Two models measured on the same samples differ with less uncertainty than that, so this leaves more
        points undecided than a paired comparison would.
        """
        parts = ((part[rows], part[row]) for part in (self.low, self.value, self.high))
        no_worse = np.logical_and.reduce([(a <= b).all(axis=1) for a, b in parts])
        apart = (self.high[rows] < self.low[row]).any(axis=1)
        return np.asarray(no_worse & apart)

    def undominated(self) -> NDArray[np.bool_]:
        """Mark the rows that no row surely dominates, [n]; they include all rows of the plain front.

        A row is always sorted after the rows that dominate it, and the relation is transitive, so each row has to be
        compared only with the undominated rows before it.
        """
        keep = np.zeros(len(self.value), dtype=np.bool_)
        kept: list[int] = []
        for row in np.lexsort(self.value.T[::-1]):
            if not self.dominates(np.array(kept, dtype=np.intp), int(row)).any():
                keep[row] = True
                kept.append(int(row))
        return keep


def _ends(reading: Reading, objective: Objective) -> tuple[float, float, float]:
    assert reading.value is not None
    value = objective.loss(reading.value)
    given = [objective.loss(end) for end in (reading.low, reading.high) if end is not None]
    return min([value, *given]), value, max([value, *given])
