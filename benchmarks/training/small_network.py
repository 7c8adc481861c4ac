"""Samples a second of `fit` on two ranks for a network of 9 k parameters, in an older checkout against today's.

Pairs of processes alternate between the two; of each, the median epoch after the first counts. What is told apart is
all that a step costs beside its few products: the loop, the loss over ranks, and one all-reduce of the gradients.
"""

import argparse
import os
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from benchmarks.training.two_ranks import add_rank_arguments, be_a_rank, found_on_two_ranks
from paretta.pipelines.bench import Bench
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.task import Task
from paretta.pipelines.training.train import TrainSettings, fit  # type: ignore[attr-defined]  # where both have it

EXPECTED: Final = 0.97  # of the older checkout's samples a second
BATCH, STEPS, EPOCHS = 64, 120, 8


def epoch_rates(ranks: Ranks) -> list[float]:
    """Train, and return the samples a second of each epoch after the first."""
    inputs = torch.randn(BATCH * STEPS, 64, generator=torch.Generator().manual_seed(0))
    data, few = TensorDataset(inputs, torch.arange(len(inputs)) % 10), TensorDataset(inputs[:8], torch.arange(8))
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    task, stamps = Task(model, data, few, few, functional.cross_entropy, {}, inputs[:1]), list[float]()
    bench = Bench(task, ranks, report=lambda _: stamps.append(time.perf_counter()))
    fit(task.new_model(), bench, TrainSettings(epochs=EPOCHS, batch_size=BATCH))
    return [len(inputs) / (end - begin) for begin, end in pairwise(stamps)]


def trained(source: Path) -> float:
    """Return the samples a second of the median epoch, on two ranks with the package in `source`."""
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(source.resolve())}
    rates: list[float] = found_on_two_ranks("benchmarks.training.small_network", environment=environment)
    return statistics.median(rates)


def main() -> int:
    """Measure, print the table and say whether the expectation was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of an older commit")
    parser.add_argument("--rounds", type=int, default=8)
    add_rank_arguments(parser)
    arguments = parser.parse_args()
    if arguments.rank is not None:
        be_a_rank(arguments.rank, arguments.folder, epoch_rates)
    load = os.getloadavg()[0]
    sources = {"before": arguments.before / "src", "now": Path(__file__).parents[2] / "src"}
    found: dict[str, list[float]] = {way: [] for way in sources}
    for number in range(arguments.rounds):
        for way in list(sources) if number % 2 == 0 else reversed(sources):
            found[way].append(trained(sources[way]))
    print(f"samples a second on two ranks, {arguments.rounds} pairs; load before {load:.1f}")
    for way, rates in found.items():
        print(f"{way:7} median {statistics.median(rates):7.0f}   {min(rates):7.0f} to {max(rates):7.0f}")
    ratios = [now / before for now, before in zip(found["now"], found["before"], strict=True)]
    ratio = statistics.median(ratios)
    print(f"now / before: median {ratio:.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    print(f"expected at least {EXPECTED:g}: {'hit' if ratio >= EXPECTED else 'miss'}")
    return 0 if ratio >= EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
