"""Multiply-accumulates of one sample in convolutions and matrix products, counted on the exported graph."""

from collections.abc import Sequence
from typing import Literal

from paretta.pipelines.measuring.mac_count import LayerWork, WorkMeter
from paretta.search_spaces.objectives.reading import Detail


class Macs(WorkMeter):
    """Exact, no interval: ``outputs x inputs of each output`` of every layer, in floats and integers alike.

    Beside it stand the share that integers do, and the names of the layers that compute in floats.
    """

    kind: Literal["macs"] = "macs"
    unit: Literal["MACs"] = "MACs"

    def count(self, layers: Sequence[LayerWork]) -> int:
        """Return the sum over the layers."""
        return sum(layer.macs for layer in layers)

    def told(self, layers: Sequence[LayerWork]) -> dict[str, Detail]:
        """Return the number of layers, and the share that integers do."""
        macs, integer = self.count(layers), self.count([layer for layer in layers if layer.is_integer])
        return {"layers": len(layers), "integer_share": integer / macs if macs else 0.0}
