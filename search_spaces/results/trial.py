"""A trial: one plan that was tried, with its result and its cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, cast, get_args

from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.note import Note
from paretta.search_spaces.space.plan import Plan

Status: TypeAlias = Literal["running", "complete", "stopped early", "failed", "infeasible", "interrupted"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
_OLD_NAMES: Final[Mapping[str, Status]] = {"pruned": "stopped early"}  # of journals with schema 1
Role: TypeAlias = Literal["baseline", "trial", "confirmation", "delivered", "earlier"]


@dataclass(frozen=True, slots=True)
class Trial:
    """The immutable record of one trial; every change makes a new one.

    Args:
        uid: unique in the sweep and stable over restarts.
        number: in the order in which the search proposed them; the baseline is 0, trials count from 1.
        status: ``complete``: measured; ``infeasible``: measured, but it misses a limit of the sweep; ``stopped early``:
            the stopper ended its training; ``failed``: see `reason`; ``interrupted``: the sweep was stopped while the
            trial ran, and continues with it when it is resumed.
        role: a ``confirmation`` is the plan of another trial, trained again with another seed after the search; a
            ``delivered`` trial is a by-product, made by cheap stages after another trial's training; an ``earlier`` one
            was taken over from an earlier sweep.
        of: uid of the trial that a confirmation repeats, or of the trial whose training a by-product continues.
        knobs: the values that filled the space's holes, by knob name.
        words: the plan in words.
        readings: by meter, on the validation split.
        test_readings: by meter, on the test split; only for members of a frozen front.
        artifact: folder of the delivered files, relative to the sweep's folder.
        reason: why the trial is not complete.
        detail: what helps to debug it, such as a traceback.
        cost: seconds by name, such as ``wall_s`` and ``cpu_s``.
        started, finished: Unix time in seconds.
        layers: ``shape``, ``bits`` and ``sparsity`` of each weight of the delivered model by its layer's name, and
            under ``in_floats`` why that layer computes in floats, if it does.
        reused: leading stages of the plan whose result was taken from another trial, in order, each
            ``{"stages": [kinds], "trial": uid of that trial}``.
        notes: what stages left as it was, and why.
    """

    uid: str
    number: int
    plan: Plan
    seed: int
    status: Status
    role: Role = "trial"
    knobs: Mapping[str, Json] = field(default_factory=dict)
    words: str = ""
    readings: Mapping[str, Reading] = field(default_factory=dict)
    test_readings: Mapping[str, Reading] = field(default_factory=dict)
    artifact: str | None = None
    reason: str | None = None
    detail: str = ""
    cost: Mapping[str, float] = field(default_factory=dict)
    started: float = 0.0
    finished: float = 0.0
    of: str | None = None
    layers: Mapping[str, Json] = field(default_factory=dict)
    reused: Sequence[Document] = ()
    notes: Sequence[Note] = ()

    @property
    def is_measured(self) -> bool:
        """Whether it was trained and measured completely, whether or not it meets the limits."""
        return self.status in ("complete", "infeasible")

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, in whatever state."""
        return self.status not in ("running", "interrupted")

    def value(self, meter: str) -> float | None:
        """Return the validation reading of `meter`, or None if there is none."""
        reading = self.readings.get(meter)
        return reading.value if reading else None

    def with_test_readings(self, readings: Mapping[str, Reading]) -> "Trial":
        """Return the same trial with its test readings."""
        return replace(self, test_readings=dict(readings))

    def to_document(self) -> dict[str, Json]:
        """Return plain data for JSON."""
        return {
            "uid": self.uid,
            "number": self.number,
            "role": self.role,
            "status": self.status,
            "reason": self.reason,
            "detail": self.detail,
            "plan": self.plan.to_document(),
            "fingerprint": self.plan.fingerprint,
            "seed": self.seed,
            "knobs": dict(self.knobs),
            "words": self.words,
            "readings": {meter: reading.to_document() for meter, reading in self.readings.items()},
            "test_readings": {meter: reading.to_document() for meter, reading in self.test_readings.items()},
            "artifact": self.artifact,
            "cost": dict(self.cost),
            "started": self.started,
            "finished": self.finished,
            **({"of": self.of} if self.of else {}),
            **({"layers": dict(self.layers)} if self.layers else {}),
            **({"reused": list(self.reused)} if self.reused else {}),
            **({"notes": [note.to_document() for note in self.notes]} if self.notes else {}),
        }

    @classmethod
    def from_document(cls, document: Document) -> "Trial":
        """Read what `to_document` wrote."""
        return cls(
            uid=str(document["uid"]),
            number=cast(int, document["number"]),
            plan=Plan.from_document(cast(Document, document["plan"])),
            seed=cast(int, document["seed"]),
            status=_status(str(document["status"])),
            role=cast(Role, document["role"]),
            knobs=cast(Document, document["knobs"]),
            words=str(document["words"]),
            readings=_readings(document["readings"]),
            test_readings=_readings(document["test_readings"]),
            artifact=cast(str | None, document["artifact"]),
            reason=cast(str | None, document["reason"]),
            detail=str(document["detail"]),
            cost=cast(Mapping[str, float], document["cost"]),
            started=cast(float, document["started"]),
            finished=cast(float, document["finished"]),
            of=cast(str | None, document.get("of")),
            layers=cast(Mapping[str, Json], document.get("layers", {})),
            reused=tuple(cast(Sequence[Document], document.get("reused", ()))),
            notes=tuple(map(Note.from_document, cast(Sequence[Document], document.get("notes", ())))),
        )


def _status(name: str) -> Status:
    return _OLD_NAMES.get(name, cast(Status, name))


def _readings(document: Json) -> dict[str, Reading]:
    readings = cast(Mapping[str, Document], document)
    return {meter: Reading.from_document(reading) for meter, reading in readings.items()}
