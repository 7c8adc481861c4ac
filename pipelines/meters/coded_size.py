"""Bytes of the model in its entropy-coded form, to store or to send."""

from pathlib import Path
from typing import Literal

from paretta.pipelines.artifact import MODEL
from paretta.pipelines.coding.container import encode_model
from paretta.pipelines.meter import Meter, MeterBench
from paretta.search_spaces.objectives.reading import Reading


class CodedSize(Meter):
    """Size of what ``paretta pack`` writes: exact, no interval.

    It holds the very ``model.onnx`` that was measured, which ``paretta unpack`` gives back bit for bit. No runtime
    reads it directly, so it is never mixed with ``size``, the file that runs.
    """

    kind: Literal["coded_size"] = "coded_size"
    unit: Literal["B"] = "B"
    goal: Literal["min"] = "min"

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the bytes, with what each part of the model takes of them beside it."""
        coded = encode_model((artifact / MODEL).read_bytes())
        parts = {f"{part}_bytes": round(size, 1) for part, size in coded.parts.items()}
        return Reading(float(len(coded.content)), self.unit, details=parts)
