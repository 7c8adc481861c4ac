"""The most memory that a process which only serves the model ever held, as the kernel counts it."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from pipelines.fresh_start import STATUS, memory_bytes
from pipelines.meter import MeterBench
from pipelines.runtime import Device
from pipelines.serving import ServedMeter, fresh_starts
from pipelines.statistics import median_interval
from search_spaces.objectives import Reading


class PeakMemory(ServedMeter):
    """Peak resident bytes (VmHWM) of a fresh process that loads the runtime and the model and answers a few batches.

    ``before_model_bytes`` in the details is what interpreter and runtime held before the model was opened: of a small
    model nearly all of the peak. ``model_bytes`` is the difference.
    """

    runs_on: ClassVar[tuple[Device, ...]] = ("cpu",)

    kind: Literal["peak_memory"] = "peak_memory"
    unit: Literal["B"] = "B"
    goal: Literal["min"] = "min"
    starts: int = Field(6, ge=6, description="the fresh processes, at least 6, which an interval needs")

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the median over the starts with its interval between order statistics."""
        if missing := self.unavailable(artifact, bench):
            return missing
        if memory_bytes(STATUS, "VmHWM") is None:
            return Reading.not_measured(self.unit, f"the kernel tells no VmHWM in {STATUS}")
        told = fresh_starts(self, artifact, bench, self.starts)
        peaks, before = (
            np.array([start[name] for start in told], np.float64) for name in ("peak_rss_bytes", "rss_before_bytes")
        )
        low, high = median_interval(peaks) or (None, None)
        details = {
            "before_model_bytes": float(np.median(before)),
            "model_bytes": float(np.median(peaks - before)),
            **self.facts(),
            "clock": "none",
        }
        return Reading(float(np.median(peaks)), self.unit, low=low, high=high, num_samples=len(told), details=details)
