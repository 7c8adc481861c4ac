"""A plan: the stages one model goes through, with every hole filled."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, Union, cast

Json: TypeAlias = Union[bool, int, float, str, Sequence["Json"], Mapping[str, "Json"], None]
Document: TypeAlias = Mapping[str, Json]


def canonical_json(value: Json) -> str:
    """Write `value` so that equal values give equal text: sorted keys, no spaces, ``1.0`` as ``1``, no NaN.

    >>> canonical_json({"b": 1.0, "a": [True, None, 0.5]})
    '{"a":[true,null,0.5],"b":1}'
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def _plain(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def digest(value: Json) -> str:
    """Return the SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered stage documents, each ``{"kind": "prune", ...settings}``.

    Args:
        baseline: the stages that make the uncompressed model, which is also the teacher; equal for a whole sweep.
        stages: the compression that follows.

    >>> plan = Plan(({"kind": "train", "epochs": 5},), ({"kind": "prune", "sparsity": 0.5},))
    >>> plan.baseline_plan().stages
    ()
    >>> plan.fingerprint == Plan.from_document(plan.to_document()).fingerprint
    True
    """

    baseline: tuple[Document, ...] = ()
    stages: tuple[Document, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the whole plan: equal plans have equal fingerprints."""
        return digest(self.to_document())

    def prefixes(self) -> tuple[str, ...]:
        """Fingerprints of the plan cut after each stage, baseline stages first; the key of a stage's result."""
        documents = [*self.baseline, *self.stages]
        return tuple(digest(documents[: end + 1]) for end in range(len(documents)))

    def baseline_plan(self) -> "Plan":
        """Return the plan that makes the uncompressed model alone."""
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
