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
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.ladder.rows import UNCOMPRESSED, Model, model_of, outcomes_of, task_of
from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.ranks import use_threads
from paretta.pipelines.state.cache import Cache

ROWS = sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


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
    with TemporaryDirectory() as folder:
        task = task_of(sweep)
        outcomes = outcomes_of(sweep, task, arguments.seed, Cache(arguments.cache), Path(folder))
        models = [model_of(name, outcome, task) for name, outcome in outcomes.items()]
    if arguments.json:
        facts = {"row": arguments.row, "seed": arguments.seed, "models": [asdict(model) for model in models]}
        arguments.json.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    print(f"\n{sweep.story}\nseed {arguments.seed}, {time.perf_counter() - begun:.0f} s")
    print(table(models))


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
