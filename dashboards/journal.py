"""The journal: every event of a sweep as one fsynced JSON line, the source from which all records are rebuilt."""

import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, cast

from dashboards.growth import Growth, Step
from search_spaces.errors import Problem, WrongInput
from search_spaces.front import Front
from search_spaces.limits import Limit, parse_limits
from search_spaces.objectives import Objective
from search_spaces.plan import Document, Json
from search_spaces.trial import Trial
from search_spaces.wish import Wish

JOURNAL_FILE: Final = "journal.jsonl"
SCHEMA_VERSION: Final = 1
Ending: TypeAlias = Literal["done", "stopped", "failed"]


class Journal:
    """Appends events to a sweep's journal; an event is on the disk when the call returns it.

    One process writes it at a time. A line that a crash cut short is dropped when the journal is opened again.
    """

    def __init__(self, folder: Path) -> None:
        """Open `folder`'s journal for appending, made where there is none.

        Raises `WrongInput` while another process writes it; that right falls free with the process, however it ends.
        """
        path = folder / JOURNAL_FILE
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            mend = "wait for it, or stop it first"
            raise WrongInput(Problem(str(folder), "another process is running this sweep", mend=mend)) from None
        _drop_torn_line(path)

    def sweep(self, *, name: str, config: Document, objectives: tuple[Objective, ...], facts: Document) -> Document:
        """Open the record: the resolved sweep document, the objectives, and facts such as digests and versions."""
        goals: Json = [{"meter": o.meter, "goal": o.goal, "unit": o.unit} for o in objectives]
        return self._append("sweep", name=name, config=config, objectives=goals, facts=facts, schema=SCHEMA_VERSION)

    def resumed(self, facts: Document) -> Document:
        """Record that the sweep goes on, and what is different from its start, such as versions."""
        return self._append("resumed", facts=facts)

    def trial(self, trial: Trial) -> Document:
        """Record a trial as it stands now; the last record of a uid is the valid one."""
        return self._append("trial", trial=trial.to_document())

    def progress(self, uid: str, message: Document) -> Document:
        """Record how far a running trial is: its stage, epoch and loss."""
        return self._append("progress", uid=uid, message=message)

    def front(self, uids: tuple[str, ...]) -> Document:
        """Freeze the front: from here on its members carry test readings."""
        return self._append("front", members=list(uids))

    def end(self, status: Ending, reason: str | None = None) -> Document:
        """Close the record; a resumed sweep opens it again by its next event."""
        return self._append("end", status=status, reason=reason)

    def _append(self, event: str, **fields: Json) -> Document:
        entry: Document = {"event": event, "time": time.time(), **fields}
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return entry

    def __enter__(self) -> Self:
        """Use as a context manager: closes the file at the end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self._file.close()


def is_written(folder: Path) -> bool:
    """Tell whether a process runs the sweep in `folder`: one that was killed leaves its journal open and unlocked."""
    with (folder / JOURNAL_FILE).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _drop_torn_line(path: Path) -> None:
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def events(folder: Path, start: int = 0) -> Iterator[tuple[Document, int]]:
    """Yield each event from byte `start` on with the position behind it; a line still being written is left out."""
    with (folder / JOURNAL_FILE).open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            yield cast(Document, json.loads(line)), start


@dataclass(slots=True)
class SweepRecord:
    """A sweep as its journal tells it.

    Args:
        config: the resolved sweep document.
        facts: digests, versions and settings found at the start.
        limits: what the front's members must keep to; reference: what moves the hypervolume's reference point.
        trials: the last state of each trial by uid, baseline included.
        progress: the last message of each running trial by uid.
        frozen: uids of the final front, None while the sweep runs.
        endings: each trial at the moment it ended, with the Unix time of the event; a trial tried again ends again.
        status: ``running`` until an ending is written.
        updated: Unix time of the last event.
        began: Unix time at which the first trial of the search started; None before.
    """

    name: str = ""
    folder: Path = Path()
    config: Document = field(default_factory=dict)
    facts: Document = field(default_factory=dict)
    objectives: tuple[Objective, ...] = ()
    limits: tuple[Limit, ...] = ()
    reference: tuple[Limit, ...] = ()
    trials: dict[str, Trial] = field(default_factory=dict)
    progress: dict[str, Document] = field(default_factory=dict)
    frozen: tuple[str, ...] | None = None
    endings: list[tuple[float, Trial]] = field(default_factory=list)
    status: Literal["running", "done", "stopped", "failed"] = "running"
    reason: str | None = None
    started: float = 0.0
    updated: float = 0.0
    began: float | None = None
    _growth: Growth | None = field(default=None, init=False, repr=False, compare=False)
    _states: Counter[str] = field(default_factory=Counter, init=False, repr=False, compare=False)

    @classmethod
    def read(cls, folder: Path) -> "SweepRecord":
        """Read the journal of the sweep in `folder`. Raises `FileNotFoundError` where there is none."""
        record = cls(name=folder.name, folder=folder)
        for event, _ in events(folder):
            record.apply(event)
        return record

    def apply(self, event: Document) -> None:
        """Take one event into account."""
        self.updated = cast(float, event["time"])
        if event["event"] != "end":
            self.status, self.reason = "running", None
        match event["event"]:
            case "sweep":
                self._open(event)
            case "trial":
                self._take(Trial.from_document(cast(Document, event["trial"])))
            case "progress":
                self.progress[str(event["uid"])] = cast(Document, event["message"])
            case "front":
                self.frozen = tuple(cast(list[str], event["members"]))
            case "end":
                self.status = cast(Ending, event["status"])
                self.reason = cast(str | None, event["reason"])

    def _take(self, trial: Trial) -> None:
        before = self.trials.get(trial.uid)
        self.trials[trial.uid] = trial
        if trial.role == "trial":
            self.began = trial.started if self.began is None else min(self.began, trial.started)
            self._states.update([trial.status])
            self._states.subtract([before.status] if before else [])
        if trial.status != "running":
            self.progress.pop(trial.uid, None)
            if before is None or before.status != trial.status:
                self.endings.append((self.updated, trial))

    def _open(self, event: Document) -> None:
        self.started = self.started or self.updated
        self._growth = None  # what was asked before the objectives were known counts nothing
        self.config, self.facts = cast(Document, event["config"]), cast(Document, event["facts"])
        self.limits, self.reference = limits_of(self.config), limits_of(self.config, "reference")
        goals = cast(list[Mapping[str, str]], event["objectives"])
        self.objectives = tuple(Objective(g["meter"], "max" if g["goal"] == "max" else "min", g["unit"]) for g in goals)

    def front(self) -> Front:
        """Return the front of what has finished so far."""
        wishes = wishes_of(self.config)
        return Front.of(self.trials.values(), self.objectives, self.name, self.limits, wishes, reference=self.reference)

    def count(self, *statuses: str) -> int:
        """Count the trials in the given states, the baseline left out."""
        return sum(self._states[status] for status in statuses)

    def history(self) -> Sequence[Step]:
        """Return the front's growth, one step per ended trial, in the order of the journal."""
        if self._growth is None:
            front = Front.of((), self.objectives, limits=self.limits, reference=self.reference)
            self._growth = Growth(front)
        for time_of, trial in self.endings[len(self._growth.steps) :]:
            self._growth.add(time_of, trial)
        return self._growth.steps


def limits_of(config: Document, section: str = "limits") -> tuple[Limit, ...]:
    """Return the limits in a sweep's resolved document; none where it was written before there were any."""
    return parse_limits(cast(list[Json], config.get(section, [])))


def wishes_of(config: Document) -> dict[str, Wish]:
    """Return the named wishes in a sweep's resolved document; none where it was written before there were any."""
    wishes = cast(Mapping[str, Json], config.get("wishes", {}))
    return {name: Wish.from_document(wish) for name, wish in wishes.items()}
