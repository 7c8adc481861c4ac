"""Bytes of the model in its entropy-coded form, to store or to send."""

from pathlib import Path
from typing import ClassVar, Literal

from paretta.pipelines.artifact import MODEL
from paretta.pipelines.coding.container import SIZE_BYTES, encode_model
from paretta.pipelines.meter import Meter, MeterBench
from paretta.search_spaces.objectives.reading import Reading


class CodedSize(Meter):
    """Size of what ``paretta pack`` writes: exact, no interval.

    It holds the very ``model.onnx`` that was measured, which ``paretta unpack`` gives back bit for bit. No runtime
    reads it directly, so it is never mixed with ``size``, the file that runs.
    """

    unchecked: ClassVar[str] = "it follows from the file, which the manifest holds"

    kind: Literal["coded_size"] = "coded_size"
    unit: Literal["B"] = "B"
    goal: Literal["min"] = "min"

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the bytes, with what each part of the model takes of them beside it."""
        coded = encode_model((artifact / MODEL).read_bytes())
        parts = {f"{part}_bytes": round(size, 1) for part, size in coded.parts.items()}
        return Reading(float(len(coded.content)), self.unit, details=parts)

    @classmethod
    def second_look(cls, claim: Reading, artifact: Path, *, model_bytes: int, elsewhere: bool) -> float | None:
        """Code the model again, elsewhere only: where it was made, the same code has just read it."""
        if not elsewhere:
            return None
        found = float(len(encode_model((artifact / MODEL).read_bytes()).content))
        # files of the coded format's version 1 lacked the model's size, and were shorter by that
        return found - SIZE_BYTES if claim.value == found - SIZE_BYTES else found
