"""Samples a second of `fit` on two workers of a lane, against torch's tutorial of DDP under torchrun.

The same network and data in both, in turn, in one run; each tells the samples a second of an epoch after one that
warms up.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist

from benchmarks.training.gradients import SIZES, by_fit, by_plain_loop
from benchmarks.training.two_ranks import leave
from paretta.orchestrator.cluster.connect import PACKAGE, connect
from paretta.orchestrator.lanes.pool import Job, LanePool, RankContext
from paretta.pipelines.ranks import Ranks

EXPECTED: Final = 0.97  # of torchrun's samples a second
WAYS: Final = ("torchrun", "lane")


def on_lane(payload: Mapping[str, object], rank: RankContext) -> float:
    """Train by `fit` on the ranks of a lane."""
    torch.set_num_threads(1)
    return by_fit(str(payload["size"]), Ranks.joined(rank.device), steps=int(str(payload["steps"])))


def torchrun(size: str, steps: int) -> float:
    """Train by the plain loop, in processes that torchrun starts."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "benchmarks.training.data_parallel", "--rank", "--size", size, "--steps", str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(next(line for line in done.stdout.splitlines() if line.startswith("samples/s")).split()[1])


def measure(size: str, steps: int, rounds: int) -> dict[str, list[float]]:
    """Return the samples a second of each way, round by round."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    payload = {"size": size, "steps": steps}
    with (
        tempfile.TemporaryDirectory() as folder,
        connect(num_cpus=2),
        LanePool(on_lane, storage=Path(folder), workers_per_lane=2, start_timeout_s=170.0) as lanes,
    ):
        lanes.submit(Job("warm-up", payload))
        lanes.result("warm-up", timeout_s=300.0)
        for number in range(rounds):
            found["torchrun"].append(torchrun(size, steps))
            lanes.submit(Job(str(number), payload))
            found["lane"].append(float(str(lanes.result(str(number), timeout_s=300.0))))
    return found


def be_a_rank(size: str, steps: int) -> None:
    """Be one rank under torchrun."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    ranks = Ranks.joined()
    rate = by_plain_loop(size, ranks, steps=steps)
    if ranks.is_first:
        print(f"samples/s {rate}", flush=True)
    leave()


def main() -> int:
    """Measure, print the table and say whether the expectation was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", choices=SIZES, default="10 M", help="number of parameters")
    parser.add_argument("--steps", type=int, default=20, help="of an epoch")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        be_a_rank(arguments.size, arguments.steps)
    load = os.getloadavg()[0]
    found = measure(arguments.size, arguments.steps, arguments.rounds)
    ratios = [lane / plain for lane, plain in zip(found["lane"], found["torchrun"], strict=True)]
    if arguments.json is not None:
        document = {**found, "ratios": ratios, "expected": EXPECTED, "load_before": load}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"samples a second, {arguments.size} parameters, {arguments.rounds} rounds in turn; load before {load:.1f}")
    for way, rates in found.items():
        print(f"{way:12} median {statistics.median(rates):8.1f}   {min(rates):8.1f} to {max(rates):8.1f}")
    ratio = statistics.median(ratios)
    verdict = "hit" if ratio >= EXPECTED else "miss"
    print(f"lane against torchrun, paired: median {ratio:.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    print(f"expected at least {EXPECTED:g}: {verdict}")
    return 0 if ratio >= EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
