"""Objectives: the meters that a sweep compares trials by, and the scale on which it compares them."""

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Goal: TypeAlias = Literal["min", "max"]

REFERENCE_RUNTIME: Final = "onnxruntime"
"""The runtime whose answers are the delivered file's: metrics are computed from them, other runtimes compared."""

COST_UNITS: Final = ("B", "s", "ratio", "J", "MACs", "BOPs", "samples/s")
_STRAIGHT: Final = (
    2.0**-10
)  # share of the baseline below which the scale is linear: halving less than 1/1024 hardly matters
_TINY: Final = 1e-290


def meter_label(name: str) -> str:
    """Return the name of a meter as readings and objectives have it, which is short on the reference runtime.

    >>> meter_label("latency@onnxruntime"), meter_label("latency@openvino")
    ('latency', 'latency@openvino')
    """
    return name.removesuffix(f"@{REFERENCE_RUNTIME}")


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
        """Return the value with the sign at which smaller is better."""
        return value if self.goal == "min" else -value

    @property
    def is_ratio(self) -> bool:
        """Whether values are compared by ratio, as bytes and seconds are, and not by difference, as shares are."""
        return self.unit != "share"

    @property
    def is_cost(self) -> bool:
        """Whether its unit is that of a cost, such as bytes or seconds, and not of how good the answers are."""
        return self.unit in COST_UNITS

    @property
    def slack(self) -> float:
        """How much worse than the baseline a value may be and still count towards hypervolume, on the scale of `axis`.

        Zero for costs. One step for objectives that say how good the answers are: ten points of a share, or twice the
        baseline's loss.
        """
        return 0.0 if self.is_cost else 1.0

    def axis(self, value: float, baseline: float) -> float:
        """Map a value to a scale where the baseline is 0 and smaller is better; it never decreases as the loss rises.

        A share is mapped to steps of 10 points, ``(loss - baseline loss) / 0.1``. Anything else is mapped to
        ``log2(value / baseline)``, so -1 is half the baseline's size or twice its rate. Values whose magnitude is below
        1/1024 of the baseline are mapped by the tangent of the logarithm, which passes through 0, and negative values
        beyond that by its mirror image, so that 0 and negative values are defined. A baseline of 0 has no ratios; there
        the tangent has steps of 0.1.

        >>> errors = Objective("errors", "min", "errors")
        >>> [round(errors.axis(value, 20.0), 2) for value in (40.0, 20.0, 5.0, 0.0, -20.0)]
        [1.0, 0.0, -2.0, -11.44, -22.89]
        """
        if not self.is_ratio:
            return (self.loss(value) - self.loss(baseline)) / 0.1
        if value > 0 and baseline > 0 and min(value, baseline) >= baseline * _STRAIGHT >= _TINY:
            return _log2_ratio(value, baseline) if self.goal == "min" else _log2_ratio(baseline, value)
        straight = abs(baseline) * _STRAIGHT
        straight = straight if straight >= _TINY else 0.1 / math.log(2)
        return _signed_log2(self.loss(value), straight) - _signed_log2(self.loss(baseline), straight)


def _signed_log2(loss: float, straight: float) -> float:
    """Return an odd, increasing scale: ``1 / ln 2 + log2(loss / straight)`` from `straight` on, its tangent below."""
    if abs(loss) < straight:
        return loss / straight / math.log(2)
    return math.copysign(_log2_ratio(abs(loss), straight) + 1 / math.log(2), loss)


def _log2_ratio(value: float, other: float) -> float:
    ratio = value / other
    return math.log2(ratio) if 0 < ratio < math.inf else math.log2(value) - math.log2(other)
