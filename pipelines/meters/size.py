"""Bytes of the model file, as the file system counts them."""

from pathlib import Path
from typing import ClassVar, Literal

from paretta.pipelines.artifact import MODEL
from paretta.pipelines.meter import Meter, MeterBench
from paretta.search_spaces.objectives.reading import Reading


class Size(Meter):
    """Size of ``model.onnx``: exact, no interval."""

    changed_by: ClassVar[frozenset[str] | None] = frozenset({"chosen by value", "widths by value", "stored by value"})
    is_verified: ClassVar[bool] = True

    kind: Literal["size"] = "size"
    unit: Literal["B"] = "B"
    goal: Literal["min"] = "min"

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the bytes, with the ratio to the baseline in the details."""
        size = (artifact / MODEL).stat().st_size
        if bench.baseline is None:
            return Reading(float(size), self.unit)
        baseline = (bench.baseline / MODEL).stat().st_size
        return Reading(float(size), self.unit, details={"baseline_bytes": baseline, "times_smaller": baseline / size})

    @classmethod
    def second_look(cls, claim: Reading, artifact: Path, *, model_bytes: int, elsewhere: bool) -> float | None:
        """Return the size that the isolated check measured."""
        return float(model_bytes)
