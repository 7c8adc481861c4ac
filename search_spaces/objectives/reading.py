"""A measured value with its interval and unit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.quantities import format_quantity

Detail: TypeAlias = float | int | str | bool


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured value of a finished artifact, with its uncertainty.

    Args:
        value: in base units (B, s, share, ratio, J, or the metric's own); None if it was not measured.
        unit: the unit of `value`.
        low, high: 95 % interval; None if the value is exact or its spread is unknown.
        num_samples: number of observations that the value was computed from.
        reason: why there is no value.
        details: additional data. ``seconds`` is the absolute time of a latency ratio.

    >>> str(Reading(0.5, "ratio", low=0.49, high=0.51, details={"seconds": 0.002}))
    '0.500x [0.490x, 0.510x], 2 ms'
    """

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    num_samples: int = 1
    reason: str | None = None
    details: Mapping[str, Detail] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the two invariants: a value is finite, and a missing value has a reason."""
        if self.value is None and not self.reason:
            raise ValueError("a reading without a value needs its `reason`")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"`value` must be finite, got {self.value!r}; use Reading.not_measured(unit, reason)")

    @classmethod
    def not_measured(cls, unit: str, reason: str) -> "Reading":
        """Return a reading without a value that states the reason."""
        return cls(None, unit, num_samples=0, reason=reason)

    def value_in(self, unit: str | None) -> float | None:
        """Return the value if `unit` is this reading's unit, or the absolute time of a latency ratio if it is ``s``.

        Returns None if there is no such value. If `unit` is None, the value is returned in its own unit.
        """
        if unit in (None, self.unit):
            return self.value
        seconds = self.details.get("seconds")
        return float(seconds) if unit == "s" and isinstance(seconds, int | float) else None

    @property
    def with_time(self) -> str:
        """The value as text; a latency ratio includes its absolute time: ``0.360x, 9.8 µs``."""
        assert self.value is not None
        return format_quantity(self.value, self.unit) + self._beside()

    def _beside(self) -> str:
        seconds = self.value_in("s") if self.unit == "ratio" else None
        return "" if seconds is None else f", {format_quantity(seconds, 's')}"

    def __str__(self) -> str:
        """Format for people, with the interval if there is one, and a latency ratio with its absolute time."""
        if self.value is None:
            return f"not measured: {self.reason}"
        text = format_quantity(self.value, self.unit)
        if self.low is not None and self.high is not None:
            text += f" [{format_quantity(self.low, self.unit)}, {format_quantity(self.high, self.unit)}]"
        return text + self._beside()

    def to_document(self) -> dict[str, Json]:
        """Return plain data for JSON."""
        return {
            "value": self.value,
            "unit": self.unit,
            "low": self.low,
            "high": self.high,
            "num_samples": self.num_samples,
            "reason": self.reason,
            "details": dict(self.details),
        }

    @classmethod
    def from_document(cls, document: Document) -> "Reading":
        """Read what `to_document` wrote."""
        return cls(
            value=cast(float | None, document["value"]),
            unit=str(document["unit"]),
            low=cast(float | None, document["low"]),
            high=cast(float | None, document["high"]),
            num_samples=cast(int, document["num_samples"]),
            reason=cast(str | None, document["reason"]),
            details=cast(Mapping[str, Detail], document["details"]),
        )
