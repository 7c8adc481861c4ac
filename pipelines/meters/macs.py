"""Multiply-accumulates of one sample in convolutions and matrix products, counted on the exported graph."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from paretta.pipelines.artifact import MODEL
from paretta.pipelines.kernels.mac_count import LayerWork, WorkMeter
from paretta.pipelines.kernels.ort_kernels import integer_kernels
from paretta.pipelines.meter import MeterBench
from paretta.search_spaces.objectives.reading import Detail, Reading


class Macs(WorkMeter):
    """Exact, no interval: ``outputs x inputs of each output`` of every layer, in floats and integers alike.

    The details hold the share computed in integers, and the names of the layers that compute in floats.
    """

    changed_by: ClassVar[frozenset[str] | None] = frozenset({"chosen by value"})

    kind: Literal["macs"] = "macs"
    unit: Literal["MACs"] = "MACs"

    def count(self, layers: Sequence[LayerWork]) -> int:
        """Return the sum over the layers."""
        return sum(layer.macs for layer in layers)

    def told(self, layers: Sequence[LayerWork]) -> dict[str, Detail]:
        """Return the number of layers."""
        return {"layers": len(layers)}

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the count, with the share that integer kernels compute if the model runs; or why there is none."""
        reading = super().read(artifact, bench)
        if reading.value is None:
            return reading
        share = integer_kernels(artifact / MODEL).details()["integer_macs_share"]
        return replace(reading, details={**reading.details, "integer_share": share})
