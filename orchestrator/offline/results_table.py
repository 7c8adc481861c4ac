"""Load finished results, from a sweep or from a parquet or CSV file, as a table to replay searches over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from paretta.dashboards.journal.journal import events
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.offline.simulator import Table
from paretta.orchestrator.policy.encoding import Configuration, Coordinates
from paretta.orchestrator.policy.problem import Rungs
from paretta.orchestrator.search.losses import LossScale, scales_of
from paretta.orchestrator.search.rungs import rungs_at, rungs_of
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean
from paretta.search_spaces.objectives.limits import Limit
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.registry import METERS
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.holes import Choice, Float, Hole, Int, Label, Tree
from paretta.search_spaces.space.space import Space

if TYPE_CHECKING:
    from pandas import DataFrame

FEWEST_ROWS = 8
KNOWN_METERS = frozenset(METERS.names()) - {"metric"}  # meters known before training; a task's metrics are learned
_STEP = "row"  # the kind of the single stage that holds a file's columns


@dataclass(frozen=True, slots=True)
class Results:
    """Configurations and their results.

    Args:
        name: of the sweep or the file.
        space: the space that the rows are points of.
        objectives: the objectives; known: those that are known before training.
        baseline: readings of the uncompressed model; reference: what moves the reference point.
        configs: the knobs of each row.
        values: by objective, [n].
        curves: by learned objective and rung, [n, rungs]; the last rung is the end.
        rungs: where the curves were read.
    """

    name: str
    space: Space
    objectives: tuple[Objective, ...]
    known: frozenset[str]
    baseline: Mapping[str, Reading]
    reference: tuple[Limit, ...]
    configs: tuple[Configuration, ...]
    values: Mapping[str, NDArray[np.float64]]
    curves: Mapping[str, NDArray[np.float64]]
    rungs: Rungs

    @property
    def scales(self) -> tuple[LossScale, ...]:
        """The loss scale of each objective."""
        return scales_of(self.objectives, self.baseline, reference=self.reference)

    def table(self) -> Table:
        """Return the losses of all rows as a table; the validation losses also serve as test losses."""
        known = [scale for scale in self.scales if scale.objective.meter in self.known]
        learned = [scale for scale in self.scales if scale.objective.meter not in self.known]
        validation = np.stack([_learned(scale, self.curves[scale.objective.meter]) for scale in learned], axis=2)
        points = [scale.as_known().reference for scale in known] + [s.as_learned().reference for s in learned]
        columns = [[scale.known(v) for v in self.values[scale.objective.meter].tolist()] for scale in known]
        return Table(
            name=self.name,
            knobs=self.space.knobs(),
            configs=self.configs,
            known_objectives=tuple(scale.as_known() for scale in known),
            known=np.array(columns).reshape(len(known), len(self.configs)).T,
            learned=tuple(scale.as_learned() for scale in learned),
            validation=validation,
            test=validation[:, -1],
            test_reference=np.array(points),
            rungs=self.rungs,
        )

    def inputs(self) -> NDArray[np.float64]:
        """Return the rows' model inputs, [n, d], for nearest-neighbour search."""
        coordinates = Coordinates(self.space.knobs())
        return coordinates.inputs(np.array([coordinates.encode(config) for config in self.configs]))


def results_of_sweep(folder: Path, known: frozenset[str]) -> Results:
    """Read the complete trials of a finished sweep.

    Args:
        folder: of the sweep.
        known: objectives that its samplers know before training.

    Raises:
        WrongInput: too few trials are complete to say anything.
    """
    record = SweepRecord.read(folder)
    space = Space.parse(cast(list[Document], record.config["baseline"]), cast(list[Json], record.config["space"]))
    front = record.front()
    trials = [t for t in record.trials.values() if t.role == "trial" and t.is_measured]
    _require_rows(record.name, len(trials))
    assert front.baseline is not None
    values = {o.meter: np.array([_value(trial, o.meter) for trial in trials]) for o in record.objectives}
    learned = [objective.meter for objective in record.objectives if not _is_known(objective.meter, known)]
    rungs, curves = _curves(folder, trials, learned, values)
    return Results(
        record.name,
        space,
        record.objectives,
        frozenset(objective.meter for objective in record.objectives) - frozenset(learned),
        front.baseline.readings,
        record.reference,
        tuple(cast(Configuration, trial.knobs) for trial in trials),
        values,
        curves,
        rungs,
    )


def _is_of(column: str, names: Sequence[str]) -> bool:
    """Whether a column holds one of the objectives `names`, or what one was after some epochs, as ``accuracy@3``."""
    name, at, epoch = column.rpartition("@")
    return column in names or (bool(at) and name in names and epoch.replace(".", "", 1).isdigit())


def _is_known(meter: str, known: frozenset[str]) -> bool:
    """Whether an objective is among `known`, on whatever runtime it was measured."""
    return meter in known or meter.partition("@")[0] in known


def results_of_file(path: Path, *, known: Sequence[str], minimise: Sequence[str], maximise: Sequence[str]) -> Results:
    """Read a parquet or CSV file with one row per configuration.

    The objectives are columns; ``accuracy@3`` is ``accuracy`` after 3 epochs. All other columns are knobs: a column of
    numbers is a range, one of text a choice. The baseline's value is the worst one of an objective or, if the values
    are shares, the best one, since the reference point is ten points below it.

    Raises:
        WrongInput: the file cannot be read, or lacks a column.
    """
    frame = _frame(path)
    objectives = [
        *(_objective(frame, name, "min") for name in minimise),
        *(_objective(frame, n, "max") for n in maximise),
    ]
    _require_columns(frame, [o.meter for o in objectives], known)
    _require_rows(path.name, len(frame))
    names = [o.meter for o in objectives]
    knobs = [str(c) for c in frame.columns if not _is_of(str(c), names) and frame[c].nunique() > 1]
    stage: dict[str, Tree] = {"kind": _STEP, **{name: _hole(frame, name) for name in knobs}}
    values = {name: frame[name].to_numpy(np.float64) for name in names}
    rungs, curves = _columns_of_curves(frame, [name for name in names if name not in known], values)
    rows = frame[knobs].to_dict("records")
    return Results(
        path.stem,
        Space((), (stage,)),
        tuple(objectives),
        frozenset(known),
        {o.meter: Reading(_baseline(o, values[o.meter]), o.unit) for o in objectives},
        (),
        tuple({f"{_STEP}.{name}": cast(Label, value) for name, value in row.items()} for row in rows),
        values,
        curves,
        rungs,
    )


def _value(trial: Trial, meter: str) -> float:
    value = trial.value(meter)
    assert value is not None
    return value


def _learned(scale: LossScale, curves: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([[scale.learned(value) for value in row] for row in curves.tolist()])


def _curves(
    folder: Path, trials: Sequence[Trial], learned: Sequence[str], values: Mapping[str, NDArray[np.float64]]
) -> tuple[Rungs, dict[str, NDArray[np.float64]]]:
    """Read the scores that each trial reported after its epochs; epochs that some trial did not report are left out."""
    told: dict[str, dict[int, Document]] = {trial.uid: {} for trial in trials}
    for event, _ in events(folder):
        message = event.get("message")
        if event["event"] == "progress" and isinstance(message, Mapping) and event["uid"] in told:
            scores, epoch = message.get("scores"), message.get("epoch")
            if isinstance(scores, Mapping) and scores and isinstance(epoch, int) and epoch != message["num_epochs"]:
                told[str(event["uid"])][epoch] = scores
    common = sorted(set.intersection(*(set(epochs) for epochs in told.values())))
    looks = rungs_of(max(common, default=0) + 1).fidelities
    chosen = [epoch for epoch in common if epoch in looks]
    curves = {}
    for meter in learned:
        early = [[cast(float, told[trial.uid][epoch].get(meter, np.nan)) for epoch in chosen] for trial in trials]
        curves[meter] = np.hstack([np.array(early).reshape(len(trials), len(chosen)), values[meter][:, None]])
    if not chosen or any(np.isnan(curve).any() for curve in curves.values()):
        return Rungs(), {meter: values[meter][:, None] for meter in learned}
    return rungs_at([*chosen, max(common) + 1]), curves


def _columns_of_curves(
    frame: "DataFrame", learned: Sequence[str], values: Mapping[str, NDArray[np.float64]]
) -> tuple[Rungs, dict[str, NDArray[np.float64]]]:
    found = {name: [str(c) for c in frame.columns if str(c) != name and _is_of(str(c), [name])] for name in learned}
    epochs = sorted({float(column.rpartition("@")[2]) for columns in found.values() for column in columns})
    complete = [epoch for epoch in epochs if all(f"{name}@{epoch:g}" in frame for name in learned)]
    curves = {
        name: np.column_stack([*(frame[f"{name}@{epoch:g}"] for epoch in complete), values[name]]).astype(np.float64)
        for name in learned
    }
    return rungs_at([*complete, complete[-1] * 3]) if complete else Rungs(), curves


def _frame(path: Path) -> "DataFrame":
    import pandas as pd  # noqa: PLC0415 - only a file needs it

    if not path.is_file():
        raise WrongInput(Problem(str(path), "there is no such file", hint="name a sweep, or a .parquet or .csv file"))
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise WrongInput(Problem(str(path), f"the file cannot be read: {error}")) from None


def _objective(frame: "DataFrame", name: str, goal: str) -> Objective:
    share = name in frame and bool(frame[name].between(0, 1).all()) and goal == "max"
    return Objective(name, "max" if goal == "max" else "min", "share" if share else "1")


def _baseline(objective: Objective, values: NDArray[np.float64]) -> float:
    return float(values.max() if objective.goal == "min" or objective.unit == "share" else values.min())


def _require_columns(frame: "DataFrame", names: Sequence[str], known: Sequence[str]) -> None:
    problems = [
        Problem("objective", did_you_mean(n, map(str, frame.columns), "column")) for n in names if n not in frame
    ]
    problems += [Problem("--known", did_you_mean(n, names, "objective")) for n in known if n not in names]
    if not names or not set(names) - set(known):
        rule = "at least one objective is learned by training"
        problems.append(Problem("objective", rule, list(names), "give --minimise or --maximise COLUMN"))
    if problems:
        raise WrongInput(*problems)


def _require_rows(name: str, count: int) -> None:
    if count < FEWEST_ROWS:
        rule = f"a replay needs at least {FEWEST_ROWS} complete trials"
        raise WrongInput(Problem(name, rule, count, "take a longer sweep"))


def _hole(frame: "DataFrame", name: str) -> Hole:
    values = [value.item() if hasattr(value, "item") else value for value in frame[name].unique()]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values) or len(values) <= 12:
        return Choice(tuple(sorted(values, key=lambda value: (str(type(value)), value))))
    if all(isinstance(value, int) for value in numbers):
        return Int(int(min(numbers)), int(max(numbers)))
    return Float(float(min(numbers)), float(max(numbers)))
