"""What torch's parts cost to start: the loaders of a worker, and DistributedDataParallel, first and in later trainings.

Loaders are timed from a pass's beginning to its first batch, minus what that takes in the training process, once where
they start and then where they serve the next training, as those of a lane serve its next trial. DDP is timed from its
construction to its end, in two processes over gloo, by the first training of a process and by later ones.
"""

import argparse
import os
import statistics
import sys
import time

import torch
from torch import nn

from benchmarks.training.gradients import SIZES, task_of
from benchmarks.training.loading import BATCH, store
from benchmarks.training.two_ranks import add_rank_arguments, be_a_rank, found_on_two_ranks
from paretta.pipelines.batches.loaders import Loaders
from paretta.pipelines.batches.request import BatchRequest
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.training.backward import Backward
from paretta.pipelines.training.settings import TrainSettings

TIMES = 5


def first_batch_s(loaders: Loaders) -> float:
    """Return the seconds until the first batch of a pass over the slow store."""
    task = store()
    requests = [BatchRequest("train", part, 0) for part in torch.arange(4 * BATCH).split(BATCH)]
    begun = time.perf_counter()
    batches = loaders.read(task, requests)
    next(batches)
    seconds = time.perf_counter() - begun
    for _ in batches:
        pass
    return seconds


def of_loaders() -> None:
    """Print what loaders cost where they start, and where they run already."""
    here = statistics.median(first_batch_s(Loaders()) for _ in range(TIMES))
    for count in (1, 2, 4):
        loaders = Loaders(store, count)
        first, *later = (first_batch_s(loaders) - here for _ in range(1 + TIMES))
        loaders.close()
        print(f"{count} loader(s): first training {first:6.2f} s, later ones {statistics.median(later):7.3f} s")


def ready_s(ranks: Ranks, size: str) -> float:
    """Return the seconds that the preparation of a training over ranks takes, and its end."""
    task = task_of(size, 1)
    model = task.new_model()
    settings = TrainSettings()
    backward = Backward(
        model, nn.ModuleList([model]), task=task, ranks=ranks, settings=settings, loss=lambda outputs, batch: outputs
    )
    ranks.barrier()
    begun = time.perf_counter()
    with backward.ready():
        pass
    return time.perf_counter() - begun


def of_both_ways(ranks: Ranks) -> dict[str, list[float]]:
    """Time the preparation of a network that DDP trains, and of one that an all-reduce does, again and again."""
    return {size: [ready_s(ranks, size) for _ in range(1 + TIMES)] for size in ("10 M", "9 k")}


def main() -> int:
    """Measure and print the table; the parts that this process loads are timed first."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_rank_arguments(parser)
    arguments = parser.parse_args()
    if arguments.rank is not None:
        be_a_rank(arguments.rank, arguments.folder, of_both_ways)
    print(f"load before {os.getloadavg()[0]:.1f}")
    of_loaders()
    for size, (first, *later) in found_on_two_ranks("benchmarks.training.starting").items():
        way = "DistributedDataParallel" if SIZES[size][0] > 1000 else "one all-reduce"
        print(f"{size} on two ranks, {way}: first training {first:.3f} s, later ones {statistics.median(later):.3f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
