"""A row of a ladder: its baseline and its one plan are trained, delivered and measured."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.bench import TrainingProgress
from paretta.pipelines.loading.load_task import load_task
from paretta.pipelines.measuring.measure import measure
from paretta.pipelines.meter import meter_of
from paretta.pipelines.outcome import RunOutcome
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.pipelines.state.cache import Cache
from paretta.pipelines.task import Split, Task
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan

SIZES = ("size", "coded_size")
UNCOMPRESSED, COMPRESSED = "uncompressed", "compressed"


@dataclass(frozen=True, slots=True)
class Model:
    """One delivered model: what it weighs in bytes, and its errors in percent."""

    name: str
    num_parameters: int
    size: float
    coded_size: float
    validation_error: float
    test_error: float
    cpu_seconds: float


def task_of(sweep: Sweep) -> Task:
    """Return the sweep's task."""
    return load_task(sweep.config.task.use, sweep.config.task.options, sweep.folder)


def outcomes_of(sweep: Sweep, task: Task, seed: int, cache: Cache, folder: Path) -> dict[str, RunOutcome]:
    """Train the sweep's one plan and what it is compared with, below `folder`."""
    run_in = partial(run, task=task, seed=seed, ranks=Ranks.alone(), cache=cache, report=_tell)
    plan = next(sweep.space.corners())
    first = run_in(plan.baseline_plan(), folder=folder / "baseline")
    if plan.stages[0]["kind"] != "student":
        return {UNCOMPRESSED: first, COMPRESSED: run_in(plan, folder=folder / "compressed")}
    alone = next(place for place, stage in enumerate(plan.stages) if stage["kind"] == "train") + 1
    student = Plan(plan.baseline, plan.stages[:alone])
    outcome = run_in(student, folder=folder / "student", by_products=[(plan, folder / "compressed")])
    (compressed,) = outcome.by_products
    if isinstance(compressed, str):
        raise SystemExit(compressed)
    return {"teacher": first, UNCOMPRESSED: outcome, COMPRESSED: compressed}


def model_of(name: str, outcome: RunOutcome, task: Task) -> Model:
    """Measure a delivered model on validation, and its error on test too."""
    validation = _read(outcome, task, "validation", *SIZES, "accuracy")
    test = _read(outcome, task, "test", "accuracy")
    on_validation, on_test = (100 * (1 - _value(readings["accuracy"])) for readings in (validation, test))
    size, coded_size = (_value(validation[meter]) for meter in SIZES)
    return Model(name, outcome.num_parameters, size, coded_size, on_validation, on_test, outcome.cpu_seconds)


def _read(outcome: RunOutcome, task: Task, split: Split, *names: str) -> dict[str, Reading]:
    meters = [meter_of(name, task.metrics) for name in names]
    return measure(outcome.folder, None, task, split=split, meters=meters)


def _value(reading: Reading) -> float:
    assert reading.value is not None, reading.reason
    return reading.value


def _tell(progress: TrainingProgress) -> None:
    told = f"{progress.stage}: epoch {progress.epoch} of {progress.num_epochs}, loss {progress.loss:.4f}"
    print(f"\r{told:60}", end="", file=sys.stderr, flush=True)
