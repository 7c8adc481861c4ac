"""Hinton's experiment: how many test errors two layers of 800 units make with and without a teacher.

    python examples/mnist/fetch.py
    python -m benchmarks.ladder.distillation [--seed 0] [--temperatures 3 8] [--json FILE]

The teacher, two layers of 1,200 units, learns with dropout from images moved by up to two pixels; its students have
neither. The temperature is the one whose student makes the fewest errors on validation. Hinton, Vinyals and Dean (2015,
section 3) report 67 errors of the teacher, 146 of the student alone and 74 of the one taught at temperature 20, all
trained on 60,000 images; here 5,000 of those are for validation.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from pipelines.bench import Bench, seeded
from pipelines.cache import Cache
from pipelines.measure import measure
from pipelines.meter import meter_of
from pipelines.ranks import Ranks, use_threads
from pipelines.run import run
from pipelines.stage import stage_of
from pipelines.task import Split, Task, load_task
from search_spaces.plan import Document, Plan

MNIST = str(Path(__file__).parents[2] / "examples" / "mnist" / "task.py") + ":make"
TEACHER = {"net": "mlp", "widths": {"first": 1200, "second": 1200, "dropout": 0.2}, "jitter": 2}
STUDENT: Document = {"kind": "student", "variant": "mlp", "options": {"first": 800, "second": 800}}
TRAINING: Document = {"epochs": 10, "lr": 0.002, "batch_size": 256}
TEACHING: Document = {"kind": "train", **TRAINING, "epochs": 16}


@dataclass(frozen=True, slots=True)
class Pupil:
    """One network and how many images of each split it names wrongly."""

    name: str
    temperature: float | None
    validation_errors: int
    test_errors: int


def main() -> None:
    """Train the teacher and its students and print what they make of the test images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[3.0, 8.0])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    use_threads(1)
    begun, pupils = time.perf_counter(), []
    for pupil in experiment(arguments.seed, arguments.temperatures):
        pupils.append(pupil)
        print(f"{pupil.name:28}{pupil.validation_errors:>5} of validation{pupil.test_errors:>5} of test", flush=True)
    best = min((pupil for pupil in pupils if pupil.temperature), key=lambda pupil: pupil.validation_errors)
    print(f"chosen on validation: {best.name}; seed {arguments.seed}, {time.perf_counter() - begun:.0f} s")
    if arguments.json:
        facts = {"seed": arguments.seed, "chosen": best.name, "pupils": [asdict(pupil) for pupil in pupils]}
        arguments.json.write_text(json.dumps(facts, indent=2), encoding="utf-8")


def experiment(seed: int, temperatures: list[float]) -> Iterator[Pupil]:
    """Yield the teacher, the student alone, and the student taught at each temperature."""
    teacher = taught_by_moved_images(seed)
    task = replace(load_task(MNIST, {"net": "mlp"}), model=teacher)
    pupil = partial(_pupil, task=task, seed=seed, cache=Cache())
    yield pupil("teacher", ())
    yield pupil("student alone", (STUDENT, {"kind": "train", **TRAINING}))
    for temperature in temperatures:
        distill: Document = {"kind": "distill", **TRAINING, "temperature": temperature, "weight": 0.9}
        yield pupil(f"student, temperature {temperature:g}", (STUDENT, distill), temperature)


def taught_by_moved_images(seed: int) -> nn.Module:
    """Return the trained teacher."""
    task = load_task(MNIST, TEACHER)
    with seeded(seed):
        return stage_of(TEACHING).apply(task.new_model(), Bench(task, Ranks.alone(), seed)).eval()


def _pupil(
    name: str, stages: tuple[Document, ...], temperature: float | None = None, *, task: Task, seed: int, cache: Cache
) -> Pupil:
    with TemporaryDirectory() as folder:
        run(Plan((), stages), task, seed=seed, ranks=Ranks.alone(), folder=Path(folder), cache=cache)
        validation, test = (_errors(Path(folder), task, split) for split in ("validation", "test"))
    return Pupil(name, temperature, validation, test)


def _errors(folder: Path, task: Task, split: Split) -> int:
    reading = measure(folder, None, task, split=split, meters=[meter_of("accuracy", task.metrics)])["accuracy"]
    assert reading.value is not None, reading.reason
    return round((1 - reading.value) * reading.num_samples)


if __name__ == "__main__":
    main()
