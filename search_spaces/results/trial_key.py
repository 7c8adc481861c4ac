"""The key of a trial, shared by the search, its journal, its lanes and Ray Tune's configs."""

from dataclasses import dataclass
from typing import Self

from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.plan import Plan


@dataclass(frozen=True, slots=True, order=True)
class TrialKey:
    """Identifies a trial of the search; all its other names are derived from it.

    A strategy's proposals and Ray Tune's trials are numbered separately, because a proposal may never become a trial,
    and Tune creates a trial before it has a plan. Each mapping is kept in one place: `Suggester` maps keys to
    proposals, `TuneSearcher` maps Tune's trials to keys.

    Args:
        number: in the order in which the search proposed them, from 1; the baseline is 0.
        fingerprint: fingerprint of its plan.

    >>> key = TrialKey.of(7, Plan(({"kind": "train"},)))
    >>> key.uid
    '0007-f8df36'
    >>> TrialKey.from_document(key.to_document()) == key
    True
    """

    number: int
    fingerprint: str

    @classmethod
    def of(cls, number: int, plan: Plan) -> Self:
        """Return the key of the `number`-th trial, whose plan is `plan`."""
        return cls(number, plan.fingerprint)

    @property
    def uid(self) -> str:
        """The name of its record, its artifact and its job; the same number and plan give the same uid."""
        return f"{self.number:04d}-{self.fingerprint[:6]}"

    def to_document(self) -> dict[str, int | str]:
        """Return plain data, such as for a Tune config."""
        return {"number": self.number, "fingerprint": self.fingerprint}

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """Read what `to_document` wrote; other entries are ignored."""
        number = document["number"]
        assert isinstance(number, int)
        return cls(number, str(document["fingerprint"]))
