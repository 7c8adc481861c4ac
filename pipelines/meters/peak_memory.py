"""Peak memory of a process that only serves the model, as the kernel counts it."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.measuring.cold_start import PROC_STATUS, memory_bytes
from paretta.pipelines.measuring.served_meter import FreshStartMeter
from paretta.pipelines.meter import MeterBench
from paretta.search_spaces.objectives.reading import Detail, Reading


class PeakMemory(FreshStartMeter):
    """Peak resident bytes (VmHWM) of a fresh process that loads the runtime and the model and answers a few batches.

    ``before_model_bytes`` in the details is the memory of interpreter and runtime before the model was opened, which
    for a small model is nearly all of the peak. ``model_bytes`` is the difference.
    """

    value_of: ClassVar[str] = "peak_rss_bytes"

    kind: Literal["peak_memory"] = "peak_memory"
    unit: Literal["B"] = "B"
    goal: Literal["min"] = "min"

    def unavailable(self, artifact: Path, bench: MeterBench) -> Reading | None:
        """Also check that the kernel reports VmHWM."""
        if memory_bytes(PROC_STATUS, "VmHWM") is None:
            return Reading.not_measured(self.unit, f"the kernel reports no VmHWM in {PROC_STATUS}")
        return super().unavailable(artifact, bench)

    def beside(self, told: Mapping[str, NDArray[np.float64]]) -> dict[str, Detail]:
        """Return the memory before the model was opened, and the model's share."""
        peaks, before = told["peak_rss_bytes"], told["rss_before_bytes"]
        return {"before_model_bytes": float(np.median(before)), "model_bytes": float(np.median(peaks - before))}
