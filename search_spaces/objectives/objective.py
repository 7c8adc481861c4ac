"""What counts as better: readings with their uncertainty, the direction of each, and limits on them."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

Goal: TypeAlias = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Objective:
    """A meter that the search minimises or maximises.

    Args:
        meter: the name of the meter or of the task's metric.
        goal: which direction is better; a fact of the meter, never of the sweep.
        unit: the base unit of its readings.
    """

    meter: str
    goal: Goal
    unit: str

    def loss(self, value: float) -> float:
        """Return the value turned so that smaller is better."""
        return value if self.goal == "min" else -value

    @property
    def is_ratio(self) -> bool:
        """Whether values compare by ratio, as bytes and seconds do, and not by difference, as shares do."""
        return self.unit != "share"

    def axis(self, value: float, baseline: float) -> float:
        """Place a value on a scale where the baseline is 0 and smaller is better.

        Sizes, times, rates and other positive quantities: ``log2`` of the ratio, so -1 is half the baseline's size or
        twice its rate. Shares and everything else: the loss in steps of 10 points, ``(loss - baseline loss) / 0.1``.
        """
        if self.is_ratio and value > 0 and baseline > 0:
            return math.log2(value / baseline if self.goal == "min" else baseline / value)
        return (self.loss(value) - self.loss(baseline)) / 0.1
