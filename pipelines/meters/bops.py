"""Bit operations of one sample: multiply-accumulates times the widths of weights and activations, layer by layer."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from paretta.pipelines.kernels.mac_count import LayerWork, WorkMeter
from paretta.search_spaces.objectives.reading import Detail


class Bops(WorkMeter):
    """Exact, no interval: ``sum of MACs x weight bits x activation bits``, with widths as delivered; floats have 32.

    It compares widths for hardware that computes in them. ONNX Runtime computes in 8 bits whatever the width of the
    weights, so fewer bit operations do not mean a faster model on a CPU; use latency for that.
    """

    # a layer's values may need fewer bits than its width
    changed_by: ClassVar[frozenset[str] | None] = frozenset({"chosen by value", "widths by value", "stored by value"})

    kind: Literal["bops"] = "bops"
    unit: Literal["BOPs"] = "BOPs"

    def count(self, layers: Sequence[LayerWork]) -> int:
        """Return the sum over the layers."""
        return sum(layer.bops for layer in layers)

    def told(self, layers: Sequence[LayerWork]) -> dict[str, Detail]:
        """Return each layer's widths as ``weight x activation``."""
        return {"widths": " ".join(f"{layer.weight_bits}x{layer.value_bits}" for layer in layers)}
