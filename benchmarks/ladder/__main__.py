"""One row of the ladder of published compression results: train, compress, deliver, measure.

    python examples/mnist/fetch.py
    python -m benchmarks.ladder lenet-300-100 [--seed 0] [--cache FOLDER] [--json FILE]

A row is a sweep file without holes beside this one: its baseline and its one plan. Where the plan begins with a
student, the baseline is its teacher, and what it is compared with is the student after its first training, alone. The
whole coded file counts, header, scales and biases included; what it is a ratio of are the uncompressed network's
parameters at 4 bytes each, as in the papers. Plans were chosen on the validation split; the test split is read once at
the end.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.bench import TrainingProgress
from paretta.pipelines.loading.load_task import load_task
from paretta.pipelines.measuring.measure import measure
from paretta.pipelines.meter import meter_of
from paretta.pipelines.outcome import RunOutcome
from paretta.pipelines.ranks import Ranks, use_threads
from paretta.pipelines.run import run
from paretta.pipelines.state.cache import Cache
from paretta.pipelines.task import Split, Task
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan

ROWS = sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))
SIZES = ("size", "coded_size")
UNCOMPRESSED = "uncompressed"


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


def main() -> None:
    """Run one row and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="where baselines are kept, which rows may share")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    use_threads(1)
    begun = time.perf_counter()
    sweep = Sweep.read(str(Path(__file__).with_name(f"{arguments.row}.yaml")))
    models = ladder(sweep, arguments.seed, Cache(arguments.cache))
    if arguments.json:
        facts = {"row": arguments.row, "seed": arguments.seed, "models": [asdict(model) for model in models]}
        arguments.json.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    print(f"\n{sweep.story}\nseed {arguments.seed}, {time.perf_counter() - begun:.0f} s")
    print(table(models))


def ladder(sweep: Sweep, seed: int, cache: Cache) -> list[Model]:
    """Train the sweep's one plan and what it is compared with, and measure them."""
    task = load_task(sweep.config.task.use, sweep.config.task.options, sweep.folder)
    run_in = partial(run, task=task, seed=seed, ranks=Ranks.alone(), cache=cache, report=_tell)
    with TemporaryDirectory() as scratch:
        outcomes = _outcomes(next(sweep.space.corners()), run_in, Path(scratch))
        return [_model(name, outcome, task) for name, outcome in outcomes.items()]


def _outcomes(plan: Plan, run_in: Callable[..., RunOutcome], folder: Path) -> dict[str, RunOutcome]:
    first = run_in(plan.baseline_plan(), folder=folder / "baseline")
    if plan.stages[0]["kind"] != "student":
        return {UNCOMPRESSED: first, "compressed": run_in(plan, folder=folder / "compressed")}
    alone = next(place for place, stage in enumerate(plan.stages) if stage["kind"] == "train") + 1
    student = Plan(plan.baseline, plan.stages[:alone])
    outcome = run_in(student, folder=folder / "student", by_products=[(plan, folder / "compressed")])
    (compressed,) = outcome.by_products
    if isinstance(compressed, str):
        raise SystemExit(compressed)
    return {"teacher": first, UNCOMPRESSED: outcome, "compressed": compressed}


def _model(name: str, outcome: RunOutcome, task: Task) -> Model:
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


def table(models: list[Model]) -> str:
    """Return the figures, the ratios to the uncompressed model's parameters at four bytes each among them."""
    whole = next(4 * model.num_parameters for model in models if model.name == UNCOMPRESSED)
    head = f"{'':13}{'parameters':>11}{'file':>11}{'coded':>11}{'ratio':>8}{'validation':>12}{'test':>8}{'CPU s':>7}"
    rows = [
        f"{m.name:13}{m.num_parameters:>11,}{m.size:>11,.0f}{m.coded_size:>11,.0f}{whole / m.coded_size:>7.1f}x"
        f"{m.validation_error:>10.2f} %{m.test_error:>6.2f} %{m.cpu_seconds:>7.0f}"
        for m in models
    ]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    main()
