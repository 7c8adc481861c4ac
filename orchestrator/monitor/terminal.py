"""A running sweep in the terminal: one live panel where there is one, plain lines where there is none."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from paretta.dashboards.journal.activity import doings, num_ended, seconds_left
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.monitor.front_text import confirmation_table, curse_notes, limits_note, machine_note
from paretta.orchestrator.search.budget import standing
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.quantities import format_quantity
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

_SHOWN_RUNNING: Final = 4
_WIDTH: Final = 160
_ONLY_WHERE_ANY: Final = ("infeasible", "stopped early", "interrupted")  # states that are left out where none is
DISTURBED: Final = " !"


@contextmanager
def display(num_trials: int, stream: TextIO | None = None) -> Iterator["LiveDisplay | PlainDisplay"]:
    """Give the display that suits the stream, standard error by default."""
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
    """A bar, the counts, what runs, and the line of each trial that ended above it."""

    def __init__(self, live: Live, num_trials: int) -> None:
        self.live, self.num_trials = live, num_trials

    def update(self, record: SweepRecord, event: Document) -> None:
        """Redraw; keep a line of a trial that ended."""
        trial = _ended(record, event)
        if trial is not None:
            self.live.console.print(ending(trial), soft_wrap=True, markup=False)
        self.live.update(self._panel(record))

    def show_line(self, text: str) -> None:
        """Write one line above the panel."""
        self.live.console.print(text, soft_wrap=True, markup=False)

    def _panel(self, record: SweepRecord) -> RenderableType:
        bar = ProgressBar(total=self.num_trials, completed=num_ended(record), width=40)
        running = [f"  {said.trial.uid} {said.words}" for said in doings(record)]
        return Group(bar, Text(summary(record, self.num_trials)), *map(Text, running[:_SHOWN_RUNNING]))


def summary(record: SweepRecord, num_trials: int) -> str:
    """Say how far the sweep is: trials in each state, hypervolume of the front, budgets, time left.

    The hypervolume's axes are those of `paretta.search_spaces.objectives.objective.Objective.axis`.
    """
    counts = f"{record.count('complete')}/{num_trials} complete, {record.count('running')} running"
    others = [f"{count} {state}" for state in _ONLY_WHERE_ANY if (count := record.count(state))]
    left = seconds_left(record, num_trials)
    parts = [counts, *others, f"{record.count('failed')} failed"]
    steps = record.history()
    parts += [f"hypervolume {steps[-1].hypervolume if steps else 0.0:.3f}", *standing(record)]
    return ", ".join([*parts, *([f"about {_duration(left)} left"] if left is not None else [])])


def ending(trial: Trial) -> str:
    """Say in one line what became of a trial."""
    name = "baseline" if trial.role == "baseline" else f"trial {trial.number}"
    name = f"confirmation of {trial.of}, seed {trial.seed}" if trial.role == "confirmation" else name
    name = f"by-product of trial {trial.number}" if trial.role == "delivered" else name
    name = f"taken over as {trial.uid}" if trial.role == "earlier" else name
    if not trial.is_measured:
        return f"{name} {trial.status}: {trial.reason} ({trial.words})" if trial.words else f"{name}: {trial.reason}"
    values = ", ".join(f"{meter} {_short(reading)}" for meter, reading in trial.readings.items())
    name = f"{name} infeasible, {trial.reason}" if trial.status == "infeasible" else name
    return f"{name}: {values} ({trial.words})" if trial.words else f"{name}: {values}"


def print_front(front: Front) -> None:
    """Print the table on standard output, wide enough to be read where no terminal sets the width."""
    console = Console(width=None if Console().is_terminal else _WIDTH, highlight=False)
    console.print(front_table(front))
    for note in (machine_note(front), limits_note(front), *curse_notes(front)):
        if note:
            console.print(note, soft_wrap=True, markup=False)
    if again := confirmation_table(front):
        console.print(again)


def front_table(front: Front) -> Table:
    """Draw the front: every objective with its interval, test readings where they exist, the plan in words.

    Below it stand the trials that no other one beats beyond measuring errors.
    """
    knee = front.knee().uid if len(front) else None
    undecided = front.undecided
    apart = "; ≈ off the front, but not distinguishable from it: beaten only within the intervals" if undecided else ""
    shown = [reading for trial in (*front, *undecided) for reading in trial.readings.values()]
    marked = any(reading.details.get("contended") for reading in shown)
    disturbed = f";{DISTURBED} read while other work disturbed it" if marked else ""
    caption = f"± half of the 95 % interval; ◆ knee{apart}{disturbed}"
    table = Table(caption=caption, caption_justify="left", pad_edge=False, box=SIMPLE_HEAD)
    table.add_column("trial", no_wrap=True)
    meters = [objective.meter for objective in front.objectives]
    tested = [meter for meter in meters if any(meter in trial.test_readings for trial in front)]
    for heading in (*meters, *(f"{meter} (test)" for meter in tested)):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("plan", ratio=1, overflow="fold")
    for trial in (*front, *undecided):
        name = f"{'≈ ' if trial in undecided else ''}{trial.uid}{' ◆' if trial.uid == knee else ''}"
        readings = [_cell(trial.readings[meter]) for meter in meters]
        table.add_row(name, *readings, *_tests(trial, tested), trial.words or "the uncompressed model")
    return table


def _tests(trial: Trial, meters: Sequence[str]) -> list[str]:
    return [_cell(trial.test_readings[meter]) if meter in trial.test_readings else "" for meter in meters]


def _cell(reading: Reading) -> str:
    """Write value and uncertainty as short as they can be read, a ratio of times with the time, and a mark."""
    seconds = reading.value_in("s") if reading.unit == "ratio" else None
    beside = "" if seconds is None else f", {format_quantity(seconds, 's')}"
    return f"{_interval(reading)}{beside}{DISTURBED if reading.details.get('contended') else ''}"


def _interval(reading: Reading) -> str:
    if reading.value is None or reading.low is None or reading.high is None:
        return str(reading)
    half = (reading.high - reading.low) / 2
    if reading.unit == "share":
        return f"{reading.value * 100:.2f} ±{half * 100:.2f} %"
    if reading.unit == "ratio":
        return f"{reading.value:.3f} ±{half:.3f}x"
    return f"{format_quantity(reading.value, reading.unit)} ±{format_quantity(half, reading.unit)}"


def _short(reading: Reading) -> str:
    return str(reading) if reading.value is None else reading.with_time


def _ended(record: SweepRecord, event: Document) -> Trial | None:
    """Return the trial that `event` ended, and none for what is read of it later."""
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
