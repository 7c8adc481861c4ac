"""The state of a sweep, rebuilt from its journal."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast, get_args

from paretta.dashboards.journal.annotation import Annotation
from paretta.dashboards.journal.course import Course
from paretta.dashboards.journal.front_growth import Growth, GrowthStep
from paretta.dashboards.journal.journal import SweepEnding, damaged_at, events
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.errors import WrongInput, did_you_mean
from paretta.search_spaces.objectives.limits import Limit, parse_limits
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.wish import Wish
from paretta.search_spaces.results.front import Front, missed_by
from paretta.search_spaces.results.trial import Role, Status, Trial


@dataclass(slots=True)
class SweepRecord:
    """The state of a sweep, rebuilt from its journal.

    Args:
        name: of the sweep, which is that of its folder.
        config: the resolved sweep document.
        facts: digests, versions and settings found at the start.
        lessons: what the search learned from earlier sweeps, as plain data; empty if it learned nothing.
        limits: the limits that members of the front must meet.
        reference: bounds that replace parts of the hypervolume's default reference point.
        trials: the last state of each trial by uid, baseline included. A trial that was running when the sweep ended is
            ``interrupted`` and runs again when the sweep is resumed; one that misses a limit is ``infeasible``.
        progress: the last message of each running trial by uid.
        courses: where and when each trial was trained and measured, and its scores by epoch, by uid.
        frozen: uids of the final front; None while the sweep runs.
        endings: each trial as it ended, with the Unix time of the event; a trial that is run again has several.
        status: ``running`` until the end is recorded.
        updated: Unix time of the last event.
        began: Unix time at which the first trial of the search started; None before that.
        extended: Unix time at which the search was last extended by further trials; 0 if it never was.
        idle_s: seconds since `began` during which no process ran the sweep, before it was resumed or extended.
        first_name: the name under which the sweep was started; another than `name` once it has been renamed.
        annotations: what a user has noted of each trial by uid, and of the sweep itself under an empty uid.
    """

    name: str = ""
    folder: Path = Path()
    config: Document = field(default_factory=dict)
    facts: Document = field(default_factory=dict)
    lessons: Document = field(default_factory=dict)
    objectives: tuple[Objective, ...] = ()
    limits: tuple[Limit, ...] = ()
    reference: tuple[Limit, ...] = ()
    trials: dict[str, Trial] = field(default_factory=dict)
    progress: dict[str, Document] = field(default_factory=dict)
    courses: dict[str, Course] = field(default_factory=dict)
    frozen: tuple[str, ...] | None = None
    endings: list[tuple[float, Trial]] = field(default_factory=list)
    status: Literal["running", "done", "stopped", "failed"] = "running"
    reason: str | None = None
    started: float = 0.0
    updated: float = 0.0
    began: float | None = None
    extended: float = 0.0
    idle_s: float = 0.0
    first_name: str = ""
    annotations: dict[str, Annotation] = field(default_factory=dict)
    _growth: Growth | None = field(default=None, init=False, repr=False, compare=False)
    _states: Counter[str] = field(default_factory=Counter, init=False, repr=False, compare=False)

    @classmethod
    def read(cls, folder: Path) -> "SweepRecord":
        """Read the journal of the sweep in `folder`.

        Raises:
            FileNotFoundError: there is none.
            DamagedRecord: a line of it is not a valid event.
        """
        record = cls(name=folder.name, folder=folder)
        for _ in record.follow(0):
            pass
        return record

    def follow(self, start: int) -> Iterator[tuple[Document, int]]:
        """Apply the journal from byte `start` on, and yield each event with the position after it.

        Raises `DamagedRecord` with file and line; the events before that line have been applied.
        """
        for event, position in events(self.folder, start):
            try:
                if event["event"] not in ("sweep", "end") and not self.started:
                    raise ValueError("the event that opens a sweep is missing before this line")
                self.apply(event)
            except (ValueError, WrongInput) as error:
                raise damaged_at(self.folder, start, error) from None
            yield event, position
            start = position

    def apply(self, event: Document) -> None:
        """Update the state with one event."""
        if event["event"] == "annotated":  # says nothing of the sweep's course
            self._annotate(event)
            return
        if event["event"] == "resumed" and self.began is not None:
            self.idle_s += max(cast(float, event["time"]) - self.updated, 0.0)
        self.updated = cast(float, event["time"])
        if event["event"] != "end":
            self.status, self.reason = "running", None
        match event["event"]:
            case "sweep":
                self._open(event)
            case "resumed":
                self._change("interrupted", "running")
            case "extended":
                search = {**cast(Document, self.config.get("search", {})), "trials": event["trials"]}
                self.config, self.frozen, self.extended = {**self.config, "search": search}, None, self.updated
            case "trial":
                self._take(Trial.from_document(cast(Document, event["trial"])))
            case "progress":
                uid, message = str(event["uid"]), cast(Document, event["message"])
                self.progress[uid] = message
                self.courses.setdefault(uid, Course()).take(message, self.updated)
            case "front":
                self.frozen = tuple(cast(list[str], event["members"]))
            case "end":
                self.status = cast(SweepEnding, event["status"])
                self.reason = cast(str | None, event["reason"])
                self.interrupt()

    def _annotate(self, event: Document) -> None:
        uid = cast("str | None", event.get("uid"))
        if uid is not None and uid not in self.trials:
            raise ValueError(f"uid: the sweep has no trial {uid!r} before this line")
        note, tags = cast("str | None", event.get("note")), cast("dict[str, str | None]", event.get("tags", {}))
        self.annotations[uid or ""] = self.annotation(uid or "").changed(note, tags)

    def annotation(self, uid: str = "") -> Annotation:
        """Return what a user has noted of a trial, or without `uid` of the sweep itself."""
        return self.annotations.get(uid, Annotation())

    def interrupt(self) -> bool:
        """Mark running trials as interrupted, because no process runs the sweep any more; return whether any ran."""
        return self._change("running", "interrupted")

    def _change(self, status: Status, to: Status) -> bool:
        found = [trial for trial in self.trials.values() if trial.status == status]
        for trial in found:
            self._keep(replace(trial, status=to))
        return bool(found)

    def _take(self, trial: Trial) -> None:
        for name, value, known in (("status", trial.status, Status), ("role", trial.role, Role)):
            if value not in get_args(known):
                raise ValueError(f"trial.{name}: {did_you_mean(value, get_args(known), name)}")
        before, trial = self.trials.get(trial.uid), self._judged(trial)
        self._keep(trial)
        if trial.role == "trial":
            self.began = trial.started if self.began is None else min(self.began, trial.started)
        if trial.has_ended:
            self.progress.pop(trial.uid, None)
            again = before is not None and before.is_measured and trial.is_measured
            if before is None or (before.status != trial.status and not again):
                self.endings.append((self.updated, trial))
        if trial.role == "baseline":  # limits may be relative to it
            for other in [other for other in self.trials.values() if other.is_measured]:
                self._keep(self._judged(other))

    def _keep(self, trial: Trial) -> None:
        before = self.trials.get(trial.uid)
        self.trials[trial.uid] = trial
        if trial.role == "trial":
            self._states.update([trial.status])
            self._states.subtract([before.status] if before else [])

    def _judged(self, trial: Trial) -> Trial:
        """Return a measured trial as ``infeasible`` if it misses a limit of the sweep, else as ``complete``."""
        if not trial.is_measured or not self.limits or trial.role in ("baseline", "confirmation"):
            return trial
        baseline = next((known for known in self.trials.values() if known.role == "baseline"), None)
        missed = [str(limit) for limit in self.limits if missed_by(trial, [limit], baseline) > 0]
        if missed:
            return replace(trial, status="infeasible", reason=f"misses {' and '.join(missed)}")
        return trial if trial.status == "complete" else replace(trial, status="complete", reason=None)

    def _open(self, event: Document) -> None:
        self.started = self.started or self.updated
        self.first_name = str(event["name"])
        self._growth = None  # any growth computed before the objectives were known is void
        self.config, self.facts = cast(Document, event["config"]), cast(Document, event["facts"])
        self.lessons = cast(Document, event.get("lessons", {}))
        self.limits, self.reference = limits_of(self.config), limits_of(self.config, "reference")
        wishes_of(self.config)  # raises here, with the line of the event, if a wish is invalid
        goals = cast(list[Mapping[str, str]], event["objectives"])
        self.objectives = tuple(Objective(g["meter"], "max" if g["goal"] == "max" else "min", g["unit"]) for g in goals)

    def front(self) -> Front:
        """Return the front of the trials that have finished so far."""
        wishes = wishes_of(self.config)
        return Front.of(self.trials.values(), self.objectives, self.name, self.limits, wishes, reference=self.reference)

    def count(self, *statuses: str) -> int:
        """Count the trials in the given states, excluding the baseline."""
        return sum(self._states[status] for status in statuses)

    def history(self) -> Sequence[GrowthStep]:
        """Return the front's growth, one step per ended trial, in the order of the journal."""
        if self._growth is None:
            front = Front.of((), self.objectives, limits=self.limits, reference=self.reference)
            self._growth = Growth(front)
        for time_of, trial in self.endings[len(self._growth.steps) :]:
            self._growth.add(time_of, trial)
        return self._growth.steps


def limits_of(config: Document, section: str = "limits") -> tuple[Limit, ...]:
    """Return the limits in a sweep's resolved document; documents of early versions have none."""
    return parse_limits(cast(list[Json], config.get(section, [])))


def wishes_of(config: Document) -> dict[str, Wish]:
    """Return the named wishes in a sweep's resolved document; documents of early versions have none."""
    wishes = cast(Mapping[str, Json], config.get("wishes", {}))
    return {name: Wish.from_document(wish) for name, wish in wishes.items()}
