"""The table of a front, drawn to fit the width of the terminal: numbers first, plans beside or below them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from paretta.orchestrator.monitor.console import UNBOUNDED, printer
from paretta.orchestrator.monitor.front_text import confirmation_table, curse_notes, limits_note, machine_note
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.quantities import format_quantity
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

DISTURBED: Final = " !"
_PLAN_WIDTH: Final = 40  # if fewer characters are left for the plans, they are listed below the table


def print_front(front: Front) -> None:
    """Print the table and its notes on standard output; in a pipe each trial is one line."""
    console = printer()
    console.print(FrontTable(front))
    for note in (machine_note(front), limits_note(front), *curse_notes(front)):
        if note:
            console.print(note, markup=False)
    if again := confirmation_table(front):
        console.print(again)


@dataclass(frozen=True, slots=True)
class FrontTable:
    """The front: every objective with its interval, test readings where they exist, the plan in words.

    The undecided trials follow the members. Plans are a column if at least 40 characters are left for them, otherwise
    they are listed below the table. If not even the numbers fit, each trial is a block of lines.
    """

    front: Front

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose the layout that fits."""
        numbers = self._table(plans=False)
        needed = console.measure(numbers, options=options.update_width(UNBOUNDED)).maximum
        if needed + _PLAN_WIDTH <= options.max_width:
            yield self._table(plans=True)
        elif needed <= options.max_width:
            yield numbers
            yield ""
            yield self._plans()
        else:
            yield self._blocks()
        yield Text(f"\n{self.legend()}")

    def _table(self, *, plans: bool) -> Table:
        table = Table(pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), box=SIMPLE_HEAD)
        table.add_column("trial", no_wrap=True)
        for heading in self.headings():
            table.add_column(Text(heading.replace(" (", "\n(")), justify="right", no_wrap=True)
        if plans:
            table.add_column("plan", overflow="fold")
        for trial in self._shown():
            table.add_row(*map(Text, (self._name(trial), *self._values(trial), *([_plan(trial)] if plans else []))))
        return table

    def _plans(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        for trial in self._shown():
            grid.add_row(Text(trial.uid), Text(_plan(trial)))
        return grid

    def _blocks(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        for trial in self._shown():
            grid.add_row("trial", Text(self._name(trial), style="bold"))
            for heading, value in zip(self.headings(), self._values(trial), strict=True):
                grid.add_row(Text(heading), Text(value))
            grid.add_row("plan", Text(_plan(trial)))
            if trial is not self._shown()[-1]:
                grid.add_row()
        return grid

    def _shown(self) -> tuple[Trial, ...]:
        return (*self.front, *self.front.undecided)

    def _meters(self) -> list[str]:
        return [objective.meter for objective in self.front.objectives]

    def _tested(self) -> list[str]:
        return [meter for meter in self._meters() if any(meter in trial.test_readings for trial in self.front)]

    def headings(self) -> list[str]:
        """Return the headings of the columns of numbers."""
        return [*self._meters(), *(f"{meter} (test)" for meter in self._tested())]

    def rows(self) -> list[tuple[str, ...]]:
        """Return for each trial its name, its numbers and its plan."""
        return [(self._name(trial), *self._values(trial), _plan(trial)) for trial in self._shown()]

    def _values(self, trial: Trial) -> list[str]:
        return [*(_cell(trial.readings[meter]) for meter in self._meters()), *_tests(trial, self._tested())]

    def _name(self, trial: Trial) -> str:
        knee = self.front.knee().uid if len(self.front) else None
        undecided = trial.uid not in {member.uid for member in self.front}
        return f"{'≈ ' if undecided else ''}{trial.uid}{' ◆' if trial.uid == knee else ''}"

    def legend(self) -> str:
        """Say what the signs in the table mean."""
        shown = [reading for trial in self._shown() for reading in trial.readings.values()]
        marked = any(reading.details.get("contended") for reading in shown)
        undecided = "≈ off the front, but not distinguishable from it: beaten only within the intervals"
        signs = ["± half of the 95 % interval", "◆ knee", *([undecided] if self.front.undecided else [])]
        return "; ".join([*signs, *([f"{DISTURBED.strip()} read while other work disturbed it"] if marked else [])])


def _plan(trial: Trial) -> str:
    return trial.words or "the uncompressed model"


def _tests(trial: Trial, meters: Sequence[str]) -> list[str]:
    return [_cell(trial.test_readings[meter]) if meter in trial.test_readings else "" for meter in meters]


def _cell(reading: Reading) -> str:
    """Format value and uncertainty briefly, a ratio of times with the time, and a mark if it was disturbed."""
    seconds = reading.value_in("s") if reading.unit == "ratio" else None
    beside = "" if seconds is None else f", {format_quantity(seconds, 's')}"
    return f"{_interval(reading)}{beside}{DISTURBED if reading.details.get('contended') else ''}"


def _interval(reading: Reading) -> str:
    if reading.value is None:
        return str(reading)
    if reading.low is None or reading.high is None:
        return format_quantity(reading.value, reading.unit)
    half = (reading.high - reading.low) / 2
    if reading.unit == "share":
        return f"{reading.value * 100:.2f} ±{half * 100:.2f} %"
    if reading.unit == "ratio":
        return f"{reading.value:.3f} ±{half:.3f}x"
    if reading.unit in {"B", "s", "J"}:  # each number has the prefix that suits it
        return f"{format_quantity(reading.value, reading.unit)} ±{format_quantity(half, reading.unit)}"
    return f"{reading.value:.4g} ±{half:.2g} {reading.unit}".rstrip()
