"""Multiply-accumulates of one sample in convolutions and matrix products, counted on the exported graph."""

from pathlib import Path
from typing import Literal

from pipelines.artifact import MODEL
from pipelines.meter import Meter, MeterBench
from pipelines.workload import Uncountable, layer_work
from search_spaces.objectives import Reading


class Macs(Meter):
    """Exact, no interval: ``outputs x inputs of each output`` of every layer, in floats and integers alike."""

    kind: Literal["macs"] = "macs"
    unit: Literal["MACs"] = "MACs"
    goal: Literal["min"] = "min"

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the count, with the share that integers do beside it."""
        try:
            layers = layer_work(artifact / MODEL, bench.inputs)
        except Uncountable as error:
            return Reading.not_measured(self.unit, str(error))
        macs = sum(layer.macs for layer in layers)
        integer = sum(layer.macs for layer in layers if layer.is_integer)
        details = {"layers": len(layers), "integer_share": integer / macs if macs else 0.0}
        return Reading(float(macs), self.unit, details=details)
