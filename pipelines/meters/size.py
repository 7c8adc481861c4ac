"""Bytes of the model file, as the file system counts them."""

from pathlib import Path
from typing import Literal

from paretta.pipelines.artifact import MODEL
from paretta.pipelines.meter import Meter, MeterBench
from paretta.search_spaces.objectives.reading import Reading


class Size(Meter):
    """Size of ``model.onnx``: exact, no interval."""

    kind: Literal["size"] = "size"
    unit: Literal["B"] = "B"
    goal: Literal["min"] = "min"

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the bytes, with the ratio to the baseline beside them."""
        size = (artifact / MODEL).stat().st_size
        if bench.baseline is None:
            return Reading(float(size), self.unit)
        baseline = (bench.baseline / MODEL).stat().st_size
        return Reading(float(size), self.unit, details={"baseline_bytes": baseline, "times_smaller": baseline / size})
