"""CPU seconds from the model file to the first answer, each time in a fresh process."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from pipelines.meter import MeterBench
from pipelines.runtime import Device
from pipelines.serving import ServedMeter, fresh_starts
from pipelines.statistics import median_interval
from search_spaces.objectives import Reading


class LoadTime(ServedMeter):
    """From the opening of the session to the end of its first answer; interpreter and imports are told apart.

    CPU time of the process, so that other work on the machine does not count; the wall time is in the details, and so
    is that of a cold disk, if it was cold.
    """

    runs_on: ClassVar[tuple[Device, ...]] = ("cpu",)

    kind: Literal["load_time"] = "load_time"
    unit: Literal["s"] = "s"
    goal: Literal["min"] = "min"
    starts: int = Field(6, ge=6, description="the fresh processes, at least 6, which an interval needs")

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the median over the starts with its interval between order statistics."""
        if missing := self.unavailable(artifact, bench):
            return missing
        told = fresh_starts(self, artifact, bench, self.starts)
        names = ("seconds", "wall_seconds", "imports_seconds")
        seconds, wall, imports = (np.array([start[name] for start in told], np.float64) for name in names)
        low, high = median_interval(seconds) or (None, None)
        details = {
            "wall_seconds": float(np.median(wall)),
            "interpreter_and_imports_seconds": float(np.median(imports)),
            **self.facts(),
            "clock": "process CPU",
        }
        return Reading(float(np.median(seconds)), self.unit, low=low, high=high, num_samples=len(told), details=details)
