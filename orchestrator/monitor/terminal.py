"""Show a running sweep: as a live panel on a terminal or in a notebook, as plain lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from paretta.dashboards.journal.activity import num_ended, trial_activities
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.monitor.notebook import NotebookDisplay, notebook_output
from paretta.orchestrator.monitor.progress_text import best_rows, ended_trial, ending, summary
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.results.front import Front

_SHOWN_RUNNING: Final = 4


@contextmanager
def display(num_trials: int, stream: TextIO | None = None) -> Iterator["LiveDisplay | PlainDisplay | NotebookDisplay"]:
    """Yield a live display in a notebook, or if the stream is a terminal, else a plain one.

    Args:
        num_trials: how many the sweep will have.
        stream: standard error by default.
    """
    output = None if stream else notebook_output()
    if output is not None:
        yield NotebookDisplay(output, num_trials)
        return
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
        trial = ended_trial(record, event)
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
        trial = ended_trial(record, event)
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
    rows = best_rows(front)
    if not rows:
        return None
    table = Table.grid(padding=(0, 2))
    for *values, roles in rows:
        table.add_row(*map(_one_line, (f"  {values[0]}", *values[1:])), Text(roles))
    return table


def _one_line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")
