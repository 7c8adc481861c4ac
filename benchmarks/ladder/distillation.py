"""Hinton's experiment: how many test errors two layers of 800 units make with and without a teacher.

    python examples/mnist/fetch.py
    python -m benchmarks.ladder.distillation [--seed 0] [--moved] [--temperatures 5 20 40] [--precision float32]

The teacher, two layers of 1,200 units, learns with dropout from images moved by up to two pixels; its students have
neither, and see each image as often with a teacher as without. The temperature is the one whose student makes the
fewest errors on validation. Hinton, Vinyals and Dean (2015, section 3) report 67 errors of the teacher, 146 of the
student alone and 74 of the one taught at temperature 20, all trained on 60,000 images; here 5,000 of those are for
validation. With `--moved` it is another experiment, in which the student alone makes fewer errors too: students see
moved images as the teacher does, and it answers for each view (Beyer et al., 2022). Products are in bfloat16, which
takes three fifths of the time on a CPU that has it; elsewhere take float32.
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

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.loading.load_task import load_task
from paretta.pipelines.measuring.measure import measure
from paretta.pipelines.meter import meter_of
from paretta.pipelines.ranks import Ranks, use_threads
from paretta.pipelines.run import run
from paretta.pipelines.stage import stage_of
from paretta.pipelines.state.cache import Cache
from paretta.pipelines.task import Split, Task
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.plan import Plan

MNIST = str(Path(__file__).parents[2] / "examples" / "mnist" / "task.py") + ":make"
JITTER = 2
TEACHER = {"net": "mlp", "widths": {"first": 1200, "second": 1200, "dropout": 0.2}, "jitter": JITTER}
STUDENT: Document = {"kind": "student", "variant": "mlp", "options": {"first": 800, "second": 800}}
TRAINING: Document = {"epochs": 20, "lr": 0.002, "batch_size": 512}
TEACHING: Document = {**TRAINING, "epochs": 40, "weight_decay": 0.01}
# hard labels take little part: the student shall learn what else the teacher sees in an image
SOFT_SHARE = 0.9


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
    parser.add_argument("--temperatures", type=float, nargs="+", default=[5.0, 20.0, 40.0])
    parser.add_argument("--moved", action="store_true", help="students see moved images too: not Hinton's experiment")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    use_threads(1)
    begun, pupils = time.perf_counter(), []
    for pupil in experiment(arguments.seed, arguments.temperatures, arguments.precision, moved=arguments.moved):
        pupils.append(pupil)
        print(f"{pupil.name:28}{pupil.validation_errors:>5} of validation{pupil.test_errors:>5} of test", flush=True)
    best = min((pupil for pupil in pupils if pupil.temperature), key=lambda pupil: pupil.validation_errors)
    taken = f"{time.process_time():.0f} CPU s, {time.perf_counter() - begun:.0f} s"
    print(f"chosen on validation: {best.name}; seed {arguments.seed}, {taken}")
    if arguments.json:
        facts = {
            "seed": arguments.seed,
            "moved": arguments.moved,
            "chosen": best.name,
            "pupils": [asdict(pupil) for pupil in pupils],
        }
        arguments.json.write_text(json.dumps(facts, indent=2), encoding="utf-8")


def experiment(seed: int, temperatures: list[float], precision: str, *, moved: bool) -> Iterator[Pupil]:
    """Yield the teacher, the student alone, and the student taught at each temperature; `moved` is of their images."""
    teacher = taught_by_moved_images(seed, {"kind": "train", **TEACHING, "precision": precision})
    task = replace(load_task(MNIST, {"net": "mlp", "jitter": JITTER if moved else 0}), model=teacher)
    pupil, training = partial(_pupil, task=task, seed=seed, cache=Cache()), {**TRAINING, "precision": precision}
    yield pupil("teacher", ())
    yield pupil("student alone", (STUDENT, {"kind": "train", **training}))
    for temperature in temperatures:
        soft: Document = {"temperature": temperature, "weight": SOFT_SHARE, "consistent": moved}
        distill: Document = {"kind": "distill", **training, **soft}
        yield pupil(f"student, temperature {temperature:g}", (STUDENT, distill), temperature)


def taught_by_moved_images(seed: int, training: Document) -> nn.Module:
    """Return the trained teacher."""
    task = load_task(MNIST, TEACHER)
    with seeded(seed):
        return stage_of(training).apply(task.new_model(), Bench(task, Ranks.alone(), seed)).eval()


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
