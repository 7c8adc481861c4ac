"""The driver's event log: each event goes to the journal, the record, the display and monitoring."""

from dataclasses import dataclass, field
from typing import Final, Protocol

from paretta.dashboards.journal.journal import Journal, SweepEnding
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.waiting import loading_hint
from paretta.orchestrator.lanes.log_capture import warnings_in
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import TrialFailed
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.results.trial import Trial

_WAITS: Final = "waits for data"  # marks in `warned` that this was said, in whatever figures


class Display(Protocol):
    """Shows a running sweep."""

    def update(self, record: SweepRecord, event: Document) -> None:
        """Show what `event` changed; `record` already contains it."""

    def show_line(self, text: str) -> None:
        """Show one line."""


class Metrics(Protocol):
    """Reports a running sweep to a monitoring system."""

    def tell(self, record: SweepRecord, *, at_once: bool) -> None:
        """Report the state of `record`; may be skipped soon after the previous report, unless `at_once`."""


@dataclass(frozen=True, slots=True)
class EventLog:
    """Writes events: first to disk, then to memory, then to the display and to monitoring."""

    journal: Journal
    display: Display
    files: SweepFiles
    record: SweepRecord = field(default_factory=SweepRecord)
    metrics: Metrics | None = None
    warned: set[str] = field(default_factory=set)

    def sweep(
        self,
        *,
        name: str,
        config: Document,
        objectives: tuple[Objective, ...],
        facts: Document,
        lessons: Document | None = None,
    ) -> None:
        """See `Journal.sweep`."""
        self._take(self.journal.sweep(name=name, config=config, objectives=objectives, facts=facts, lessons=lessons))

    def resumed(self, facts: Document) -> None:
        """See `Journal.resumed`."""
        self._take(self.journal.resumed(facts))

    def extended(self, trials: int) -> None:
        """See `Journal.extended`."""
        self._take(self.journal.extended(trials))

    def trial(self, trial: Trial) -> None:
        """See `Journal.trial`; first copies the trial's artifact to the driver's folder, or shows why it cannot."""
        if trial.artifact is not None:
            try:
                self.files.bring(trial.artifact)
            except TrialFailed as error:
                self.display.show_line(f"the artifact of {trial.uid} is not here yet: {error}")
        self._take(self.journal.trial(trial))

    def progress(self, uid: str, message: Document) -> None:
        """See `Journal.progress`; warnings in the message are shown, each text once, and one of waiting for data."""
        for text in [text for text in warnings_in(message) if text not in self.warned]:
            self.warned.add(text)
            self.display.show_line(f"{uid}: {text}")
        if _WAITS not in self.warned and (hint := loading_hint(message)):
            self.warned.add(_WAITS)
            self.display.show_line(f"{uid}: {hint}")
        self._take(self.journal.progress(uid, message))

    def front(self, uids: tuple[str, ...]) -> None:
        """See `Journal.front`."""
        self._take(self.journal.front(uids))

    def end(self, status: SweepEnding, reason: str | None = None) -> None:
        """See `Journal.end`."""
        self._take(self.journal.end(status, reason))

    def _take(self, event: Document) -> None:
        self.record.apply(event)
        self.display.update(self.record, event)
        if self.metrics is not None:
            self.metrics.tell(self.record, at_once=event["event"] in ("sweep", "end"))
