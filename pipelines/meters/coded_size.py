"""Bytes of the model in its entropy-coded form, to store or to send."""

from pathlib import Path
from typing import ClassVar, Literal

from paretta.pipelines.artifact import MODEL
from paretta.pipelines.coding.container import SIZE_BYTES, encode_model
from paretta.pipelines.meter import Meter, MeterBench
from paretta.search_spaces.objectives.reading import Reading


class CodedSize(Meter):
    """Size of what ``paretta pack`` writes: exact, no interval.

    It holds the ``model.onnx`` that was measured, which ``paretta unpack`` restores bit for bit. No runtime reads it
    directly, so it is distinct from ``size``, the file that runs.
    """

    unchecked: ClassVar[str] = "it follows from the file, which the manifest holds"

    kind: Literal["coded_size"] = "coded_size"
    unit: Literal["B"] = "B"
    goal: Literal["min"] = "min"

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the bytes, with the bytes of each part of the model in the details."""
        coded = encode_model((artifact / MODEL).read_bytes())
        parts = {f"{part}_bytes": round(size, 1) for part, size in coded.parts.items()}
        return Reading(float(len(coded.content)), self.unit, details=parts)

    @classmethod
    def second_look(cls, claim: Reading, artifact: Path, *, model_bytes: int, elsewhere: bool) -> float | None:
        """Code the model again, but only on another machine: where it was made, the same code has just measured it."""
        if not elsewhere:
            return None
        found = float(len(encode_model((artifact / MODEL).read_bytes()).content))
        # files of the coded format's version 1 are shorter, since they lack the model's size
        return found - SIZE_BYTES if claim.value == found - SIZE_BYTES else found
