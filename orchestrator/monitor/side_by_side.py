"""Several sweeps side by side: their joint front, hypervolume from one reference point, knobs of their fronts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from paretta.dashboards.journal.activity import asked, num_ended
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.monitor.front_table import FrontTable
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Sweeps that have the same objectives.

    Args:
        names: the sweeps' names, or their folders if several have the same name.
        records: the sweeps' records in the same order; the baseline of the first is the origin of all axes.
        joint: the front over all members of all fronts; its trials are named ``SWEEP@UID``.
        volumes: hypervolume of each sweep's front, measured from the reference point of the first.
        notes: why the numbers may not be comparable.
    """

    names: tuple[str, ...]
    records: tuple[SweepRecord, ...]
    joint: Front
    volumes: tuple[float, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, records: Sequence[SweepRecord]) -> "SideBySide":
        """Compare `records`. Raises `WrongInput` unless they are two or more sweeps with the same objectives."""
        names, first = tuple(record.name for record in records), records[0]
        if len({record.folder for record in records}) < max(len(names), 2):
            raise WrongInput(Problem("compare", "name at least two different sweeps", ", ".join(names)))
        if len(set(names)) < len(names):  # they are in different homes
            names = tuple(str(record.folder) for record in records)
        for record in records[1:]:
            if record.objectives != first.objectives:
                goals = [", ".join(objective.meter for objective in r.objectives) for r in (first, record)]
                rule = f"the objectives of {record.name} must be those of {first.name}, which are {goals[0]}"
                raise WrongInput(Problem("compare", rule, goals[1]))
        origin = first.front()
        fronts = [replace(record.front(), baseline=origin.baseline, reference=first.reference) for record in records]
        members = [
            replace(trial, uid=f"{name}@{trial.uid}", role="trial")
            for name, front in zip(names, fronts, strict=True)
            for trial in front
        ]
        joint = replace(Front.of(members, first.objectives), baseline=origin.baseline)
        return cls(names, tuple(records), joint, tuple(f.hypervolume for f in fronts), tuple(_doubts(records)))

    def on_joint(self, name: str) -> int:
        """Count the members of the joint front that come from the sweep called `name`."""
        return sum(trial.uid.startswith(f"{name}@") for trial in self.joint)

    def to_document(self) -> Document:
        """Return plain data for JSON.

        Schema 1: ``schema``, ``sweeps`` (list of ``sweep``, ``status``, ``ended``, ``front``, ``on_joint_front``,
        ``hypervolume``, ``knobs``: the values on the front by knob), ``joint_front`` (``SWEEP@UID``), ``notes``.
        """
        sweeps: list[Json] = [
            {
                "sweep": name,
                "status": record.status,
                "ended": num_ended(record),
                "front": len(record.front()),
                "on_joint_front": self.on_joint(name),
                "hypervolume": volume,
                "knobs": _knobs(record),
            }
            for name, record, volume in zip(self.names, self.records, self.volumes, strict=True)
        ]
        return {
            "schema": 1,
            "sweeps": sweeps,
            "joint_front": [trial.uid for trial in self.joint],
            "notes": list(self.notes),
        }


def print_side_by_side(console: Console, found: SideBySide) -> None:
    """Print the counts, the joint front, and the knobs of the fronts."""
    counts = _table(found.names)
    trials = [f"{num_ended(record)}/{asked(record) or '?'}" for record in found.records]
    counts.add_row("trials that ended", *trials)
    counts.add_row("points on its front", *(str(len(record.front())) for record in found.records))
    counts.add_row("of them on the joint front", *(str(found.on_joint(name)) for name in found.names))
    counts.add_row("hypervolume", *(f"{volume:.3f}" for volume in found.volumes))
    console.print(counts)
    console.print()
    console.print(FrontTable(found.joint))
    console.print(f"hypervolume is measured from the reference point of {found.names[0]}", markup=False)
    for note in found.notes:
        console.print(note, markup=False)
    knobs = [_knobs(record) for record in found.records]
    table = _table(found.names, "knob on the front")
    for knob in dict.fromkeys(knob for values in knobs for knob in values):
        table.add_row(Text(knob), *(Text(_range(values.get(knob, []))) for values in knobs))
    if table.row_count:
        console.print()
        console.print(table)


def _table(names: Sequence[str], heading: str = "") -> Table:
    table = Table(pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), box=SIMPLE_HEAD)
    table.add_column(heading)
    for name in names:
        table.add_column(Text(name), justify="right")
    return table


def _knobs(record: SweepRecord) -> dict[str, list[Json]]:
    """Return the distinct values of each knob on the front."""
    found: dict[str, list[Json]] = {}
    for trial in record.front():
        for knob, value in trial.knobs.items():
            values = found.setdefault(knob, [])
            if value not in values:
                values.append(value)
    return found


def _range(values: Sequence[Json]) -> str:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values) > 1:
        return f"{min(numbers):.3g} to {max(numbers):.3g}"
    shown = (
        "none" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value) for value in values
    )
    return ", ".join(shown) or "-"


def _doubts(records: Sequence[SweepRecord]) -> list[str]:
    """Say why the sweeps' numbers may not be comparable: different data or different baselines."""
    first, doubts = records[0], []
    for record in records[1:]:
        if record.facts.get("data_digest") != first.facts.get("data_digest"):
            doubts.append(
                f"{record.name} was measured on other data than {first.name}, so accuracies differ by samples"
            )
        ours, theirs = _baseline(first), _baseline(record)
        if ours and theirs and ours.plan.fingerprint != theirs.plan.fingerprint:
            doubts.append(f"{record.name} has another baseline than {first.name}, so ratios refer to different models")
    return doubts


def _baseline(record: SweepRecord) -> Trial | None:
    return next((trial for trial in record.trials.values() if trial.role == "baseline"), None)
