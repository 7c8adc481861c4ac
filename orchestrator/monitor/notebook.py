"""Show a running sweep in the output of a notebook's cell, which is replaced as it goes on."""

import sys
from html import escape
from importlib import import_module
from typing import Protocol

from paretta.dashboards.journal.activity import num_ended, trial_activities
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.monitor.front_html import html_table
from paretta.orchestrator.monitor.progress_text import best_rows, ended_trial, ending, summary
from paretta.search_spaces.canonical import Document


class Output(Protocol):
    """One output of a cell, such as IPython's `DisplayHandle`."""

    def update(self, obj: object) -> object:
        """Replace what it shows."""


class Shown:
    """What a cell shows: HTML, and text for notebooks without it."""

    def __init__(self, html: str, text: str) -> None:
        self.html, self.text = html, text

    def __repr__(self) -> str:
        """Return the text."""
        return self.text

    def _repr_html_(self) -> str:
        return self.html


class NotebookDisplay:
    """A bar, counts, the best points so far and the running trials; below them the last lines, newest first."""

    def __init__(self, output: Output, num_trials: int, num_lines: int = 8) -> None:
        self.output, self.num_trials, self.num_lines = output, num_trials, num_lines
        self._lines: list[str] = []
        self._best: list[tuple[str, ...]] = []
        self._record: SweepRecord | None = None

    def update(self, record: SweepRecord, event: Document) -> None:
        """Show what `event` changed."""
        trial = ended_trial(record, event)
        if trial is not None:
            self._best = best_rows(record.front())
            self._lines.insert(0, ending(trial))
        self._record = record
        self._show()

    def show_line(self, text: str) -> None:
        """Add one line."""
        self._lines.insert(0, text)
        self._show()

    def _show(self) -> None:
        record, lines = self._record, self._lines[: self.num_lines]
        if record is None:
            self.output.update(Shown(_paragraphs(lines), "\n".join(lines)))
            return
        told = summary(record, self.num_trials)
        bar = f'<progress max="{self.num_trials}" value="{num_ended(record)}" style="width: 30em"></progress>'
        best = f"<b>best so far</b>{html_table((), self._best)}" if self._best else ""
        running = [f"{said.trial.uid} {said.words}" for said in trial_activities(record)]
        doing = f"<b>running</b>{_paragraphs(running)}" if running else ""
        self.output.update(Shown(f"{bar}<p>{escape(told)}</p>{best}{doing}{_paragraphs(lines)}", told))


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, and has not merely imported one."""
    return "ipykernel" in sys.modules and import_module("IPython").get_ipython() is not None


def notebook_output() -> Output | None:
    """Return a new output of the cell that runs; None outside notebooks."""
    if not in_notebook():
        return None
    output: Output = import_module("IPython.display").display(Shown("", ""), display_id=True)
    return output


def _paragraphs(lines: list[str]) -> str:
    return "".join(f'<div style="font-size: 90%">{escape(line)}</div>' for line in lines)
