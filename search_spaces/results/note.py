"""Notes on what a stage left unchanged and why, kept with the result, so that partial compression stays visible."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from paretta.search_spaces.canonical import Document, Json

CHANGED_NOTHING: Final = "changed nothing"
REMOVED_NOTHING: Final = "removed nothing"
NOT_ASKED: Final = "nothing is asked of it"
_MOST_NAMED: Final = 6  # layers of a note are named up to this number; of more
_FIRST: Final = 3  # only so many


@dataclass(frozen=True, slots=True)
class Note:
    """One remark of a stage about what it did not do.

    Args:
        stage: the kind of the stage.
        reason: with `layers`, what happens to them and why, such as ``stays in float: its weight is shared``; without,
            a remark on the whole model, or the reason for the verdict.
        layers: names of the layers that it is about.
        verdict: the result of the stage as a whole, if it did less than intended, such as `CHANGED_NOTHING`.
        bits: the bit width that the layers should have had, if the stage assigns bit widths.

    >>> str(Note("prune", "keep their width: the forward depends on it", ("stem", "skip")))
    'stem, skip keep their width: the forward depends on it'
    >>> str(Note("prune", "keep their width", tuple(f"blocks.{index}.qkv" for index in range(12))))
    'blocks.0.qkv, blocks.1.qkv, blocks.2.qkv and 9 more keep their width'
    >>> str(Note("prune", "no layer can lose channels", verdict=CHANGED_NOTHING))
    'prune changed nothing: no layer can lose channels'
    """

    stage: str
    reason: str
    layers: tuple[str, ...] = ()
    verdict: str = ""
    bits: int | None = None

    def __str__(self) -> str:
        """Return the note as one line; of many layers the first are named, all are in `to_document`."""
        if self.layers:
            named = self.layers if len(self.layers) <= _MOST_NAMED else self.layers[:_FIRST]
            more = f" and {len(self.layers) - len(named)} more" if len(named) < len(self.layers) else ""
            return f"{', '.join(named)}{more} {self.reason}"
        return f"{self.stage} {self.verdict}: {self.reason}" if self.verdict else f"{self.stage} {self.reason}"

    def to_document(self) -> dict[str, Json]:
        """Return plain data for JSON, without empty fields."""
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


def notes_by_reason(stage: str, reasons: Mapping[str, str]) -> Iterator[Note]:
    """Yield one note for each reason, in order of first use.

    Args:
        stage: the kind of the stage.
        reasons: what happens to each layer and why, by its name.

    >>> [str(note) for note in notes_by_reason("prune", {"stem": "is kept", "skip": "is tied", "head": "is kept"})]
    ['stem, head is kept', 'skip is tied']
    """
    for reason in dict.fromkeys(reasons.values()):
        yield Note(stage, reason, tuple(name for name, found in reasons.items() if found == reason))


def verdict_of(notes: Iterable[Note]) -> str:
    """Return the first verdict among `notes`; empty if there is none."""
    return next((note.verdict for note in notes if note.verdict), "")


def words_of_stages(stages: Iterable[tuple[str, str]]) -> str:
    """Describe stages in words, each with its verdict; if none of them changed anything, that comes first.

    >>> words_of_stages([("prune 50% of channels", "changed nothing"), ("distill 2 epochs", "")])
    'prune 50% of channels (changed nothing), distill 2 epochs'
    >>> words_of_stages([("prune 50% of channels", "changed nothing"), ("fold batch norms", "changed nothing")])
    'changed nothing (prune 50% of channels, fold batch norms)'
    """
    known = list(stages)
    if known and all(verdict == CHANGED_NOTHING for _, verdict in known):
        return f"{CHANGED_NOTHING} ({', '.join(words for words, _ in known)})"
    return ", ".join(f"{words} ({verdict})" if verdict else words for words, verdict in known)
