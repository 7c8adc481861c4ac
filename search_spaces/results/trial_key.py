"""Which trial: the one key that a search, its journal, its lanes and Ray Tune's configs share."""

from dataclasses import dataclass
from typing import Self

from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.plan import Plan


@dataclass(frozen=True, slots=True, order=True)
class TrialKey:
    """Names a trial of the search; all other names follow from it.

    A strategy's proposals and Ray Tune's trials have numbers of their own, because a strategy may propose what never
    becomes a trial, and Tune knows a trial before it has a plan. Each stays in one place: `Suggester` keeps the
    proposal of each key, `TuneSearcher` the key of each Tune trial.

    Args:
        number: in the order of asking, from 1; the baseline is 0.
        fingerprint: of its plan.

    >>> key = TrialKey.of(7, Plan(({"kind": "train"},)))
    >>> key.uid
    '0007-6c18bb'
    >>> TrialKey.from_document(key.to_document()) == key
    True
    """

    number: int
    fingerprint: str

    @classmethod
    def of(cls, number: int, plan: Plan) -> Self:
        """Return the key of the trial that is the `number`-th to be asked for."""
        return cls(number, plan.fingerprint)

    @property
    def uid(self) -> str:
        """The name of its record, its artifact and its job: the same number and plan give the same uid."""
        return f"{self.number:04d}-{self.fingerprint[:6]}"

    def to_document(self) -> dict[str, int | str]:
        """Return plain data, such as for a Tune config."""
        return {"number": self.number, "fingerprint": self.fingerprint}

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """Read what `to_document` wrote; further entries are left alone."""
        number = document["number"]
        assert isinstance(number, int)
        return cls(number, str(document["fingerprint"]))
