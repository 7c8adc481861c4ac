"""Samples per second of CPU time, at a chosen batch size."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from paretta.pipelines.measuring.intervals import bootstrap_interval
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.meter import MeterBench
from paretta.search_spaces.objectives.reading import Reading


class Throughput(ServedMeter):
    """Samples per second of CPU time, ``batch_size / seconds of a call``; depends on the machine, unlike latency.

    With several threads it is samples per CPU second summed over threads. ``wall_samples_per_second`` in the details is
    the rate that a user of this machine saw; it varies with other load.
    """

    changed_by: ClassVar[frozenset[str] | None] = frozenset({"chosen by value"})
    is_timed: ClassVar[bool] = True

    kind: Literal["throughput"] = "throughput"
    unit: Literal["samples/s"] = "samples/s"
    goal: Literal["max"] = "max"
    batch_size: int = Field(default=64, ge=1, description="the inputs per call, such as 64")
    budget_seconds: float = Field(
        default=10.0, gt=0, description="the longest wall time of one reading in s, such as 10"
    )

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the median over rounds of fresh sessions with its interval."""
        if missing := self.unavailable(artifact, bench):
            return missing
        seconds = self.call_seconds(artifact, bench, budget_seconds=self.budget_seconds)
        rates = self.batch_size / seconds  # [rounds, (CPU, wall)]
        low, high = bootstrap_interval(rates[:, 0])
        computing, wall = np.median(rates, axis=0)
        details = {"wall_samples_per_second": float(wall), "contention": float(computing / wall), **self.facts()}
        return Reading(float(computing), self.unit, low=low, high=high, num_samples=len(rates), details=details)
