"""Bit operations of one sample: multiply-accumulates times the widths of weights and activations, layer by layer."""

from pathlib import Path
from typing import Literal

from pipelines.artifact import MODEL
from pipelines.meter import Meter, MeterBench
from pipelines.workload import Uncountable, layer_work
from search_spaces.objectives import Reading


class Bops(Meter):
    """Exact, no interval: ``sum of MACs x weight bits x activation bits``, with widths as delivered; floats have 32.

    It ranks widths on hardware that computes in them. ONNX Runtime computes in 8 bits whatever the weights have, so a
    smaller number here promises no time on a CPU; that is what latency tells.
    """

    kind: Literal["bops"] = "bops"
    unit: Literal["BOPs"] = "BOPs"
    goal: Literal["min"] = "min"

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the count, with each layer's widths beside it as ``weight x activation``."""
        try:
            layers = layer_work(artifact / MODEL, bench.inputs)
        except Uncountable as error:
            return Reading.not_measured(self.unit, str(error))
        widths = " ".join(f"{layer.weight_bits}x{layer.value_bits}" for layer in layers)
        return Reading(float(sum(layer.bops for layer in layers)), self.unit, details={"widths": widths})
