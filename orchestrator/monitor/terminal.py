"""Show a running sweep: as a live panel on a terminal, as plain lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from paretta.dashboards.journal.activity import num_ended, seconds_left, trial_activities
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.summary import holders
from paretta.orchestrator.search.budget import budget_words
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

_SHOWN_RUNNING: Final = 4
_SHOWN_BEST: Final = 6
_ENDED: Final = ("complete", "infeasible", "stopped early", "failed")


@contextmanager
def display(num_trials: int, stream: TextIO | None = None) -> Iterator["LiveDisplay | PlainDisplay"]:
    """Yield a live display if the stream, standard error by default, is a terminal; otherwise a plain one."""
    console = Console(file=stream or sys.stderr, highlight=False)
    if not console.is_terminal:
        yield PlainDisplay(console, num_trials)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield LiveDisplay(live, num_trials)


class PlainDisplay:
    """One line for the baseline and for each trial that ends; for logs and pipes."""

    def __init__(self, console: Console, num_trials: int) -> None:
        self.console, self.num_trials = console, num_trials

    def update(self, record: SweepRecord, event: Document) -> None:
        """Write a line if a trial ended."""
        trial = _ended(record, event)
        if trial is not None:
            self.console.print(f"{summary(record, self.num_trials)} | {ending(trial)}", soft_wrap=True, markup=False)

    def show_line(self, text: str) -> None:
        """Write one line."""
        self.console.print(text, soft_wrap=True, markup=False)


class LiveDisplay:
    """A bar, counts, the best points so far and the running trials, below the lines of the trials that ended."""

    def __init__(self, live: Live, num_trials: int) -> None:
        self.live, self.num_trials = live, num_trials
        self._best: Table | None = None

    def update(self, record: SweepRecord, event: Document) -> None:
        """Redraw the panel; if a trial ended, write its line above."""
        trial = _ended(record, event)
        if trial is not None:
            self._best = _best_points(record.front())
            self.live.console.print(ending(trial), markup=False)
        self.live.update(self._panel(record))

    def show_line(self, text: str) -> None:
        """Write one line above the panel."""
        self.live.console.print(text, markup=False)

    def _panel(self, record: SweepRecord) -> RenderableType:
        bar = Table.grid()  # a bar outside a table does not end its line
        bar.add_row(ProgressBar(total=self.num_trials, completed=num_ended(record), width=40))
        running = [_one_line(f"  {said.trial.uid} {said.words}") for said in trial_activities(record)[:_SHOWN_RUNNING]]
        best: list[RenderableType] = [] if self._best is None else [Text("best so far"), self._best]
        heading = [Text("running")] if running else []
        return Group(bar, Text(summary(record, self.num_trials)), *best, *heading, *running)


def _best_points(front: Front) -> Table | None:
    """Return a table of the best trials so far with their values and roles; None before the first trial."""
    held: dict[str, list[str]] = {}
    for role, trial in holders(front).items():
        held.setdefault(trial.uid, []).append(role)
    if not held:
        return None
    table = Table.grid(padding=(0, 2))
    for trial in [trial for trial in front if trial.uid in held][:_SHOWN_BEST]:
        values = [_short(trial.readings[objective.meter]) for objective in front.objectives]
        table.add_row(*map(_one_line, (f"  {trial.uid}", *values)), Text(", ".join(held[trial.uid])))
    return table


def _one_line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def summary(record: SweepRecord, num_trials: int) -> str:
    """Describe the progress: ended trials by state, hypervolume of the front, budgets, time left.

    The hypervolume's axes are those of `paretta.search_spaces.objectives.objective.Objective.axis`.
    """
    states = [f"{count} {state}" for state in _ENDED if (count := record.count(state))]
    ended = f"{num_ended(record)} of {num_trials} ended{': ' if states else ''}{', '.join(states)}"
    others = [f"{count} {state}" for state in ("running", "interrupted") if (count := record.count(state))]
    steps, left = record.history(), seconds_left(record, num_trials)
    time_left = [f"about {_duration(left)} left"] if left and record.frozen is None else []
    volume = f"hypervolume {steps[-1].hypervolume if steps else 0.0:.3f}"
    return "; ".join([ended, *others, volume, *budget_words(record), *time_left])


def ending(trial: Trial) -> str:
    """Describe the outcome of a trial in one line."""
    name = "baseline" if trial.role == "baseline" else f"trial {trial.number}"
    name = f"confirmation of {trial.of}, seed {trial.seed}" if trial.role == "confirmation" else name
    name = f"by-product of trial {trial.number}" if trial.role == "delivered" else name
    name = f"taken over as {trial.uid}" if trial.role == "earlier" else name
    if not trial.is_measured:
        return f"{name} {trial.status}: {trial.reason} ({trial.words})" if trial.words else f"{name}: {trial.reason}"
    values = ", ".join(f"{meter} {_short(reading)}" for meter, reading in trial.readings.items())
    name = f"{name} infeasible, {trial.reason}" if trial.status == "infeasible" else name
    return f"{name}: {values} ({trial.words})" if trial.words else f"{name}: {values}"


def _short(reading: Reading) -> str:
    return str(reading) if reading.value is None else reading.with_time


def _ended(record: SweepRecord, event: Document) -> Trial | None:
    """Return the trial that `event` ended; None for other events, such as later readings of the trial."""
    if event["event"] != "trial":
        return None
    document = event["trial"]
    assert isinstance(document, dict)
    trial = record.trials[document["uid"]]
    if record.frozen is not None and trial.role != "confirmation":
        return None
    if any("read_at" in reading.details for reading in trial.readings.values()):
        return None
    return trial if trial.has_ended else None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
