"""Samples a second of `fit` on two ranks, by one flat all-reduce and by DistributedDataParallel, against a plain loop.

One pair of processes trains networks of several sizes in each way, in turn, round by round, so that ratios are paired.
The plain loop is torch's tutorial: DistributedDataParallel, forward, backward, step. It decides `DDP_FROM`.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

from benchmarks.training.two_ranks import add_rank_arguments, be_a_rank, found_on_two_ranks
from paretta.pipelines.bench import Bench
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.task import Task
from paretta.pipelines.training import backward
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit

EXPECTED: Final = {"large": 0.97, "small": 0.97}  # of the plain loop; of the flat all-reduce
# by parameters: the width of two hidden layers, and the steps of an epoch, which takes about a second or two
SIZES: Final = {
    "9 k": (64, 240),
    "0.1 M": (280, 160),
    "0.5 M": (680, 60),
    "1.6 M": (1240, 24),
    "4 M": (1960, 10),
    "10 M": (3140, 6),
}
BATCH: Final = 64
WAYS: Final = ("flat", "ddp", "plain ddp", "as chosen")


def task_of(size: str, steps: int | None = None) -> Task:
    """Return a task with a dense network, which has about ``width^2 + 80 width`` parameters."""
    width, usual = SIZES[size]
    inputs = torch.randn(BATCH * (steps or usual), 64, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(inputs, torch.arange(len(inputs)) % 10)
    few = TensorDataset(inputs[:8], torch.arange(8))

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))

    return Task(network, data, few, few, functional.cross_entropy, {}, inputs[:1])


def by_fit(size: str, ranks: Ranks, *, start: int | None = None, steps: int | None = None) -> float:
    """Train by `fit` for one epoch that warms up and one that counts; return its samples a second.

    `start` takes the place of `DDP_FROM`.
    """
    if start is not None:
        backward.DDP_FROM = start  # type: ignore[misc]
    task, stamps = task_of(size, steps), list[float]()
    bench = Bench(task, ranks, report=lambda progress: stamps.append(progress.samples_per_second))
    fit(task.new_model(), bench, TrainSettings(epochs=2, batch_size=BATCH))
    return stamps[-1]


def by_plain_loop(size: str, ranks: Ranks, *, steps: int | None = None) -> float:
    """Train by torch's tutorial, as `by_fit` does."""
    task = task_of(size, steps)
    model = DistributedDataParallel(task.new_model())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    inputs, targets = task.train.tensors  # type: ignore[attr-defined]
    for epoch in range(2):
        begun = time.perf_counter() if epoch else 0.0
        for places in torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch)).split(BATCH):
            mine = ranks.shard(places)
            loss = functional.cross_entropy(model(inputs[mine]), targets[mine])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return len(inputs) / (time.perf_counter() - begun)


def in_every_way(ranks: Ranks, rounds: int, sizes: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Train in every way as one of the ranks, in turn; return the samples a second by size and way."""
    chosen = backward.DDP_FROM
    found: dict[str, dict[str, list[float]]] = {size: {way: [] for way in WAYS} for size in sizes}
    ways: dict[str, Callable[[str], float]] = {
        "flat": lambda size: by_fit(size, ranks, start=10**12),
        "ddp": lambda size: by_fit(size, ranks, start=0),
        "plain ddp": lambda size: by_plain_loop(size, ranks),
        "as chosen": lambda size: by_fit(size, ranks, start=chosen),
    }
    for number in range(rounds):
        for size in sizes:
            for place in range(len(WAYS)):  # each way is first, second, ... in turn
                way = WAYS[(place + number) % len(WAYS)]
                found[size][way].append(ways[way](size))
    return found


def main() -> int:
    """Measure, print the table and say whether the expectations were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=[*SIZES], help="numbers of parameters")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    add_rank_arguments(parser)
    arguments = parser.parse_args()
    if arguments.rank is not None:
        work = partial(in_every_way, rounds=arguments.rounds, sizes=arguments.sizes)
        be_a_rank(arguments.rank, arguments.folder, work)
    load = os.getloadavg()[0]
    given = ["--rounds", str(arguments.rounds), "--sizes", *arguments.sizes]
    found = found_on_two_ranks("benchmarks.training.gradients", given)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"load_before": load, **found}, indent=2) + "\n", encoding="utf-8")
    print(f"samples a second on two ranks, {arguments.rounds} rounds in turn; load before {load:.1f}")
    ratios = {}
    for size, ways in found.items():
        print(f"{size:6}", *(f"{way} {statistics.median(rates):8.0f}" for way, rates in ways.items()))
        for name, (one, other) in {
            "ddp / flat": ("ddp", "flat"),
            "as chosen / flat": ("as chosen", "flat"),
            "as chosen / plain": ("as chosen", "plain ddp"),
        }.items():
            pairs = [a / b for a, b in zip(ways[one], ways[other], strict=True)]
            ratios[size, name] = statistics.median(pairs)
            print(f"       {name}: median {statistics.median(pairs):.2f}, {min(pairs):.2f} to {max(pairs):.2f}")
    judged = {"large": ("10 M", "as chosen / plain"), "small": ("9 k", "as chosen / flat")}
    hits = {name: ratios[row] >= EXPECTED[name] for name, row in judged.items() if row in ratios}
    for network, hit in hits.items():
        print(f"{network}: expected at least {EXPECTED[network]:g}: {'hit' if hit else 'miss'}")
    return 0 if all(hits.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
