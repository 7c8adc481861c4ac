"""What a stage left as it was, and why: kept with a result, so that nothing passes for compressed that is not."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, cast

from paretta.search_spaces.canonical import Document, Json

CHANGED_NOTHING: Final = "changed nothing"
REMOVED_NOTHING: Final = "removed nothing"
NOT_ASKED: Final = "nothing is asked of it"


@dataclass(frozen=True, slots=True)
class Note:
    """One remark of a stage on what it did not do.

    Args:
        stage: its kind.
        reason: of layers what happens to them and why, such as ``stays in float: its weight is shared``; without
            layers a remark on the whole model, or with a verdict why it is so.
        layers: names of those concerned.
        verdict: what the stage did in all, where that is less than it is for, such as `CHANGED_NOTHING`.
        bits: that the layers were to get, where the stage gives widths.

    >>> str(Note("prune", "keep their width: the forward depends on it", ("stem", "skip")))
    'stem, skip keep their width: the forward depends on it'
    >>> str(Note("prune", "no layer can lose channels", verdict=CHANGED_NOTHING))
    'prune changed nothing: no layer can lose channels'
    """

    stage: str
    reason: str
    layers: tuple[str, ...] = ()
    verdict: str = ""
    bits: int | None = None

    def __str__(self) -> str:
        """Say it in a line."""
        if self.layers:
            return f"{', '.join(self.layers)} {self.reason}"
        return f"{self.stage} {self.verdict}: {self.reason}" if self.verdict else f"{self.stage} {self.reason}"

    def to_document(self) -> dict[str, Json]:
        """Return plain data for JSON, without what is empty."""
        return {
            "stage": self.stage,
            "reason": self.reason,
            **({"layers": list(self.layers)} if self.layers else {}),
            **({"verdict": self.verdict} if self.verdict else {}),
            **({"bits": self.bits} if self.bits is not None else {}),
        }

    @classmethod
    def from_document(cls, document: Document) -> "Note":
        """Read what `to_document` wrote."""
        return cls(
            stage=str(document["stage"]),
            reason=str(document["reason"]),
            layers=tuple(cast(list[str], document.get("layers", []))),
            verdict=str(document.get("verdict", "")),
            bits=cast("int | None", document.get("bits")),
        )


def verdict_of(notes: Iterable[Note]) -> str:
    """Return the first verdict among `notes`; empty where there is none."""
    return next((note.verdict for note in notes if note.verdict), "")


def words_of_stages(stages: Iterable[tuple[str, str]]) -> str:
    """Put stages into words, each with its verdict; where none changed anything, that comes first.

    >>> words_of_stages([("prune 50% of channels", "changed nothing"), ("distill 2 epochs", "")])
    'prune 50% of channels (changed nothing), distill 2 epochs'
    >>> words_of_stages([("prune 50% of channels", "changed nothing"), ("fold batch norms", "changed nothing")])
    'changed nothing (prune 50% of channels, fold batch norms)'
    """
    told = list(stages)
    if told and all(verdict == CHANGED_NOTHING for _, verdict in told):
        return f"{CHANGED_NOTHING} ({', '.join(words for words, _ in told)})"
    return ", ".join(f"{words} ({verdict})" if verdict else words for words, verdict in told)
