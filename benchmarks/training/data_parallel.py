"""Samples a second of one training on two workers of a lane, against torchrun with two ranks and one process.

The same model, data and loop in all three, in turn, in one run; each tells its own seconds after a first epoch that
warms up.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist

from paretta.orchestrator.cluster.connect import PACKAGE, connect
from paretta.orchestrator.lanes.pool import Job, LanePool, RankContext
from paretta.pipelines.bench import Bench
from paretta.pipelines.data.samples import num_samples
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.tasks.digits import make
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit

EXPECTED = 0.95  # of torchrun's samples a second
EPOCHS, BATCH, WIDTH = 9, 128, 64
WAYS = ("one process", "torchrun x2", "lane x2")


def samples_per_second(ranks: Ranks) -> float:
    """Train the digits network, wide enough that computing counts; leave the first epoch out."""
    torch.set_num_threads(1)
    task = make(width=WIDTH)
    stamps: list[float] = []
    bench = Bench(task, ranks, report=lambda _: stamps.append(time.perf_counter()))
    fit(task.new_model(), bench, TrainSettings(epochs=EPOCHS, batch_size=BATCH))
    samples = num_samples(task.train) // BATCH * BATCH * (EPOCHS - 1)
    return samples / (stamps[-1] - stamps[0])


def on_lane(payload: Mapping[str, object], rank: RankContext) -> float:
    """Train on the ranks of a lane."""
    return samples_per_second(Ranks.joined(rank.device))


def torchrun(num_ranks: int) -> float:
    """Train in processes that torchrun starts; with one rank there is no process group."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}"]
    command += ["-m", "benchmarks.training.data_parallel", "--rank"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(next(line for line in done.stdout.splitlines() if line.startswith("samples/s")).split()[1])


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the samples a second of each way, round by round."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with (
        tempfile.TemporaryDirectory() as folder,
        connect(num_cpus=2),
        LanePool(on_lane, storage=Path(folder), workers_per_lane=2, start_timeout_s=170.0) as lanes,
    ):
        lanes.submit(Job("warm-up", {}))
        lanes.result("warm-up", timeout_s=300.0)
        for number in range(rounds):
            found["one process"].append(torchrun(1))
            found["torchrun x2"].append(torchrun(2))
            lanes.submit(Job(str(number), {}))
            found["lane x2"].append(float(str(lanes.result(str(number), timeout_s=300.0))))
    return found


def rank() -> None:
    """Be one rank under torchrun."""
    grouped = int(os.environ["WORLD_SIZE"]) > 1
    if grouped:
        dist.init_process_group("gloo")
    rate = samples_per_second(Ranks.joined())
    if int(os.environ["RANK"]) == 0:
        print(f"samples/s {rate}", flush=True)
    if grouped:
        dist.destroy_process_group()


def main() -> int:
    """Measure, print the table and say whether the expectation was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        rank()
        return 0
    load = os.getloadavg()[0]
    found = measure(arguments.rounds)
    ratios = [lane / plain for lane, plain in zip(found["lane x2"], found["torchrun x2"], strict=True)]
    if arguments.json is not None:
        document = {**found, "ratios": ratios, "expected": EXPECTED, "load_before": load}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"samples a second, {arguments.rounds} rounds in turn; load before {load:.1f}")
    for way, rates in found.items():
        print(f"{way:12} median {statistics.median(rates):8.0f}   {min(rates):8.0f} to {max(rates):8.0f}")
    ratio = statistics.median(ratios)
    verdict = "hit" if ratio >= EXPECTED else "miss"
    print(f"lane against torchrun, paired: median {ratio:.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    print(f"expected at least {EXPECTED:g}: {verdict}")
    return 0 if ratio >= EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
