"""The front that a launch returns, with access to its artifacts, and its printed summary."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.console import Console

from paretta.dashboards.journal.activity import num_ended
from paretta.dashboards.journal.liveness import home_argument, program, resume_command
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.summary import holders
from paretta.dashboards.tracking.sync_status import read_sync_status
from paretta.orchestrator.delivery.model_card import Provenance
from paretta.orchestrator.delivery.pull import chosen, delivered_folder, fetch
from paretta.orchestrator.monitor.front_html import front_html
from paretta.orchestrator.monitor.front_table import print_front
from paretta.orchestrator.monitor.progress_text import ending
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.search_spaces.errors import in_error_tree
from paretta.search_spaces.objectives.roles import alias
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

if TYPE_CHECKING:
    from pandas import DataFrame

    from paretta.dashboards.report.shown_figure import ShownFigure


REPORT_FILE = "report.html"


@dataclass(frozen=True, slots=True, repr=False)
class SweepFront(Front):
    """A front and the folder of its sweep; in a notebook it shows its table and its picture."""

    folder: Path = Path()

    @classmethod
    @in_error_tree
    def read(cls, folder: Path) -> "SweepFront":
        """Read the sweep in `folder`, running or finished."""
        front = SweepRecord.read(folder).front()
        return cls(**{field.name: getattr(front, field.name) for field in fields(Front)}, folder=folder)

    def __getitem__(self, name: str) -> Trial:
        """Return a trial by its uid, the four digits of its number, or its role: ``front["0015"]``, ``front["knee"]``.

        Any measured trial is found, on the front or not. Raises `WrongInput` if there is none.
        """
        return chosen(self, name)

    def _repr_html_(self) -> str:
        return front_html(self)

    def plot(self) -> "ShownFigure":
        """Return the picture of the front, a figure of matplotlib that shows itself in a notebook."""
        from paretta.dashboards.report.figure import front_figure  # noqa: PLC0415 - matplotlib is loaded when it is asked for

        return front_figure(self)

    def compare(self, *names: str) -> "DataFrame":
        """Return trials beside each other, one column each: readings with intervals, test readings, knobs, the plan.

        Args:
            names: of trials, as for ``front[name]``; by default the baseline and each role on the front.
        """
        from paretta.dashboards.report.table import side_by_side  # noqa: PLC0415 - pandas is loaded when it is asked for

        usual = [*(["baseline"] if self.baseline else []), *holders(self)]
        return side_by_side({name: self[alias(name)] for name in names or usual})

    def to_frame(self) -> "DataFrame":
        """Return one row per member: uid, readings with intervals, test readings, knobs, and the plan in words."""
        from paretta.dashboards.report.table import to_frame  # noqa: PLC0415 - pandas is loaded when it is asked for

        return to_frame(self)

    @in_error_tree
    def pull(
        self,
        to: str | Path,
        *,
        prefer: str = "knee",
        at_least: Mapping[str, str | float] | None = None,
        at_most: Mapping[str, str | float] | None = None,
    ) -> Trial:
        """Copy the artifact that `pick` chooses to the new folder `to`, verify it, and return its trial."""
        trial = self.pick(prefer=prefer, at_least=at_least, at_most=at_most)
        fetch(delivered_folder(SweepFiles(self.folder), trial), Path(to), Provenance(trial, self))
        return trial


def print_result(front: SweepFront) -> None:
    """Print the front, where the report is, and how to pull its knee."""
    console, at = Console(), home_argument(front.folder)
    print_front(front)
    for trial in front.trials:
        if trial.status == "failed":
            console.print(ending(trial), markup=False, soft_wrap=True)
    console.print(f"report: {front.folder / REPORT_FILE}", markup=False, soft_wrap=True)
    console.print(f"{read_sync_status(front.folder)}", markup=False, soft_wrap=True)
    console.print(f"browse: {program()} board{at}", markup=False, soft_wrap=True)
    console.print(
        f"pull:   {program()} pull {shlex.quote(front.sweep)} --prefer knee --to ./best{at}",
        markup=False,
        soft_wrap=True,
    )


def how_to_resume(folder: Path, record: SweepRecord) -> str:
    """Describe how far an interrupted sweep is and how to resume it."""
    if not record.started:
        return f"{folder.name} had not started: remove {folder} and launch it again"
    asked = cast(Mapping[str, object], record.config["search"])["trials"]
    done = f"{num_ended(record)} of {asked} trials have ended"
    return f"{folder.name} is stopped: {done}\nresume: {resume_command(folder, record)}"
