"""A plan: the stages that one model goes through, with every hole filled."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from paretta.search_spaces.canonical import Document, Json, digest


@dataclass(frozen=True)
class Plan:
    """Ordered stage documents, each ``{"kind": "prune", ...settings}``.

    Args:
        baseline: the stages that make the uncompressed model, which is also the teacher; the same for a whole sweep.
        stages: the compression stages that follow.

    >>> plan = Plan(({"kind": "train", "epochs": 5},), ({"kind": "prune", "sparsity": 0.5},))
    >>> plan.baseline_plan().stages
    ()
    >>> plan.fingerprint == Plan.from_document(plan.to_document()).fingerprint
    True
    """

    baseline: tuple[Document, ...] = ()
    stages: tuple[Document, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the whole plan, computed once; equal plans have equal fingerprints."""
        return digest(self.to_document())

    def prefixes(self) -> tuple[str, ...]:
        """Fingerprints of the plan truncated after each stage, baseline stages first; each keys that stage's result."""
        documents = [*self.baseline, *self.stages]
        return tuple(digest(documents[: end + 1]) for end in range(len(documents)))

    def baseline_plan(self) -> "Plan":
        """Return the plan that makes only the uncompressed model."""
        return Plan(self.baseline, ())

    def to_document(self) -> dict[str, Json]:
        """Return plain data for JSON or YAML."""
        return {"baseline": list(self.baseline), "stages": list(self.stages)}

    @classmethod
    def from_document(cls, document: Document) -> "Plan":
        """Read what `to_document` wrote."""
        return cls(
            tuple(cast(Sequence[Document], document["baseline"])), tuple(cast(Sequence[Document], document["stages"]))
        )
