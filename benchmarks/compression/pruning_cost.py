"""What training costs when channels go during it and not after it: ``python -m benchmarks.compression.pruning_cost``.

Both ways see the data equally often and end at equal widths. CPU seconds are the run's own, those of its training
stages; accuracy is of the delivered file on the validation split. Seeds alternate between the ways.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from paretta.pipelines.measuring.measure import measure
from paretta.pipelines.meter import meter_of
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.pipelines.task import Task
from paretta.pipelines.tasks.digits import make
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.plan import Plan

EPOCHS = 18
EXPECTED_SAVING = 0.30
EXPECTED_LOSS_POINTS = 1.0
PRUNE: Document = {"kind": "prune", "sparsity": 0.6, "importance": "taylor", "round_to": 8}


def train(epochs: int) -> Document:
    """Return a training at a constant rate, so that it can be cut anywhere."""
    return {"kind": "train", "epochs": epochs, "lr": 0.002, "batch_size": 64, "schedule": "constant"}


WAYS = {
    "train, then prune, then train": Plan(stages=(train(12), PRUNE, train(6))),
    "prune gradually while training": Plan(
        stages=(train(2), {"kind": "iterate", "prune": PRUNE, "retrain": train(1), "steps": 4}, train(12))
    ),
    "train unpruned": Plan(stages=(train(EPOCHS),)),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One run: its way, its seed, what its stages cost and what was delivered."""

    way: str
    seed: int
    cpu_seconds: float
    joules: float | None
    num_parameters: int
    accuracy: float


def one(way: str, plan: Plan, task: Task, seed: int) -> Row:
    """Run a plan and read its artifact."""
    with tempfile.TemporaryDirectory(prefix="paretta-") as scratch:
        outcome = run(plan, task, seed=seed, ranks=Ranks.alone(), folder=Path(scratch) / "artifact")
        meter = meter_of("accuracy", task.metrics)
        reading = measure(outcome.folder, None, task, split="validation", meters=[meter])["accuracy"]
    cpu_seconds = sum(cost.cpu_seconds for cost in outcome.costs if cost.kind != "export")
    assert isinstance(reading.value, float)
    return Row(way, seed, cpu_seconds, outcome.facts.get("train_rapl_j"), outcome.num_parameters, reading.value)


def main() -> int:
    """Run, print the table and say whether the expectation was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task, load = make(width=arguments.width, hidden=2 * arguments.width), os.getloadavg()[0]
    one("warm-up", Plan(stages=(train(1),)), task, 0)
    rows = [one(way, plan, task, seed) for seed in range(arguments.seeds) for way, plan in WAYS.items()]
    print(f"{'way':32} {'CPU s':>14} {'parameters':>11} {'accuracy, validation':>22}")
    for way in WAYS:
        mine = [row for row in rows if row.way == way]
        costs, scores = [row.cpu_seconds for row in mine], [100 * row.accuracy for row in mine]
        spread = (
            f"{statistics.mean(costs):6.1f} ±{statistics.stdev(costs):4.1f}" if len(mine) > 1 else f"{costs[0]:6.1f}"
        )
        told = f"{statistics.mean(scores):.2f} ({min(scores):.2f} to {max(scores):.2f}) %"
        print(f"{way:32} {spread:>14} {mine[0].num_parameters:>11} {told:>22}")
    after, during = ([row for row in rows if row.way == way] for way in list(WAYS)[:2])
    saving = statistics.median(1 - b.cpu_seconds / a.cpu_seconds for a, b in zip(after, during, strict=True))
    lost = 100 * (statistics.mean(row.accuracy for row in after) - statistics.mean(row.accuracy for row in during))
    hit = saving >= EXPECTED_SAVING and lost <= EXPECTED_LOSS_POINTS
    print(f"energy counter: {'RAPL' if rows[0].joules is not None else 'none here; CPU seconds stand for it'}")
    print(
        f"pruning during training saves {saving:.0%} of CPU seconds (expected at least {EXPECTED_SAVING:.0%}) "
        f"and costs {lost:.2f} points (expected at most {EXPECTED_LOSS_POINTS:g}): {'hit' if hit else 'miss'}"
    )
    if arguments.json is not None:
        facts = {"load_before": load, "machine": platform.processor() or platform.machine(), "torch": torch.__version__}
        document = {"rows": [asdict(row) for row in rows], "saving": saving, "points_lost": lost, "hit": hit, **facts}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0 if hit else 1


if __name__ == "__main__":
    sys.exit(main())
