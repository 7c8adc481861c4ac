"""What it costs to bring one trial to its workers: a lane against a trainer per trial, in one run on one machine.

Both ways run Tune trials that train nothing on two data-parallel workers with a process group, so all that is measured
is orchestration. The documented nesting is a Tune function that calls `TorchTrainer.fit()`; a lane is one worker group
that serves every trial. Figures are wall-clock seconds per trial after a warm-up, in turn, trials one after the other.

With ``--before FOLDER``, a checkout of an older commit, the lane of that commit is measured against today's in pairs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import ray
from ray import tune
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from paretta.orchestrator.cluster.connect import connect
from paretta.orchestrator.lanes.pool import Job, LaneClient, LanePool, RankContext

EXPECTED = 20.0  # times less per trial; chosen before the measurement
EXPECTED_DEARER = 1.05  # at most, against an older commit
NUM_WORKERS = 2
PAIRED = ("lane_trial_s", "lane_job_s", "lane_start_s")


def no_op(payload: Mapping[str, object], rank: RankContext) -> int:
    """Train nothing, on every rank."""
    return rank.rank


class LaneTrial(tune.Trainable):  # type: ignore[misc]
    """A trial that hands one job to the lane; its actor is reused."""

    def setup(self, config: dict[str, object], client: LaneClient) -> None:
        """Keep the way to the lane."""
        self.client, self.number = client, config["number"]

    def step(self) -> dict[str, object]:
        """Run the job and report."""
        self.client.submit(Job(f"trial-{self.number}", {}))
        return {"rank": self.client.result(f"trial-{self.number}", timeout_s=60.0), "done": True}

    def reset_config(self, new_config: dict[str, object]) -> bool:
        """Take the next trial."""
        self.number = new_config["number"]
        return True


def nested_trial(config: dict[str, object]) -> None:
    """Start a trainer for this one trial, as Ray's guide to tuning a Train run has it."""
    TorchTrainer(
        lambda: None,
        scaling_config=ScalingConfig(num_workers=NUM_WORKERS),
        run_config=RunConfig(name=f"nested-{config['number']}", storage_path=str(config["storage"])),
    ).fit()


def seconds_per_trial(
    trainable: Callable[..., object] | type, resources: object, storage: Path, num_trials: int
) -> float:
    """Run `num_trials` trials one after the other through Tune; return the mean seconds of one."""
    space = {"number": tune.grid_search(list(range(num_trials))), "storage": str(storage)}
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space=space,
        tune_config=tune.TuneConfig(reuse_actors=isinstance(trainable, type), max_concurrent_trials=1),
        run_config=tune.RunConfig(
            name=f"run-{time.time_ns()}",
            storage_path=str(storage),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False) if isinstance(trainable, type) else None,
            verbose=0,
        ),
    )
    begun = time.perf_counter()
    results = tuner.fit()
    assert results.num_errors == 0, results.errors
    return (time.perf_counter() - begun) / num_trials


def measure(lane_trials: int, nested_trials: int) -> dict[str, float]:
    """Warm both ways up, then measure them in the same cluster."""
    with tempfile.TemporaryDirectory() as folder, connect(num_cpus=NUM_WORKERS) as cluster:
        storage, resources = Path(folder), cluster.trial_resources()
        begun = time.perf_counter()
        with LanePool(no_op, storage=storage, workers_per_lane=NUM_WORKERS) as lanes:
            lanes.submit(Job("warm-up", {}))
            lanes.result("warm-up", timeout_s=170.0)
            start = time.perf_counter() - begun
            trial = tune.with_parameters(LaneTrial, client=lanes.client)
            seconds_per_trial(trial, resources, storage, 2)
            through_tune = seconds_per_trial(trial, resources, storage, lane_trials)
            alone = direct(lanes, lane_trials)
        found = {"lane_start_s": start, "lane_job_s": alone, "lane_trial_s": through_tune}
        if not nested_trials:
            return found
        seconds_per_trial(nested_trial, resources, storage, 1)
        nested = seconds_per_trial(nested_trial, resources, storage, nested_trials)
    return {**found, "nested_trial_s": nested, "times_less": nested / through_tune}


def direct(lanes: LanePool, num_jobs: int) -> float:
    """Return the median seconds of one job that is submitted without Tune."""
    seconds = []
    for number in range(num_jobs):
        begun = time.perf_counter()
        lanes.submit(Job(f"direct-{number}", {}))
        lanes.result(f"direct-{number}", timeout_s=60.0)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def against(before: Path, pairs: int, lane_trials: int) -> bool:
    """Print what the lane's three figures are in an older checkout and now, in pairs of processes that alternate.

    Returns:
        Whether a trial is no dearer than expected.
    """
    found: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
    sources = {"before": before / "src", "now": Path(__file__).parents[1] / "src"}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(pairs):
            for way in ("before", "now") if number % 2 == 0 else ("now", "before"):
                path = Path(folder, "figures.json")
                command = [sys.executable, __file__, "--lane-trials", str(lane_trials), "--nested-trials", "0"]
                environment = {**os.environ, "PYTHONPATH": str(sources[way].resolve())}
                subprocess.run([*command, "--json", str(path)], env=environment, check=True, stdout=subprocess.DEVNULL)
                found[way].append(json.loads(path.read_text(encoding="utf-8")))
                print(way, *(f"{figure} {found[way][-1][figure]:.4f}" for figure in PAIRED), flush=True)
    ratios = {}
    for figure in PAIRED:
        rows = {way: [reading[figure] for reading in readings] for way, readings in found.items()}
        paired = [now / old for now, old in zip(rows["now"], rows["before"], strict=True)]
        ratios[figure] = statistics.median(paired)
        for way, values in rows.items():
            print(f"{figure:13} {way:7} {statistics.median(values):8.4f}  {' '.join(f'{v:.4f}' for v in values)}")
        print(f"{figure:13} ratio   {ratios[figure]:8.3f}  {min(paired):.3f} to {max(paired):.3f}")
    hit = ratios["lane_trial_s"] <= EXPECTED_DEARER
    print(f"a trial: expected at most {EXPECTED_DEARER:g} of before: {'hit' if hit else 'miss'}")
    return hit


def main() -> int:
    """Measure, print the table and say whether the expectation was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--lane-trials", type=int, default=40)
    parser.add_argument("--nested-trials", type=int, default=3)
    parser.add_argument("--before", type=Path, help="a checkout of an older commit")
    parser.add_argument("--pairs", type=int, default=5, help="of processes, with --before")
    arguments = parser.parse_args()
    if arguments.before is not None:
        return 0 if against(arguments.before, arguments.pairs, arguments.lane_trials) else 1
    load = os.getloadavg()[0]
    figures = measure(arguments.lane_trials, arguments.nested_trials)
    hit = figures.get("times_less", EXPECTED) >= EXPECTED
    if arguments.json is not None:
        facts = {"num_workers": NUM_WORKERS, "cpus": os.cpu_count(), "load_before": load, "ray": ray.__version__}
        counts = {"lane_trials": arguments.lane_trials, "nested_trials": arguments.nested_trials}
        document = {**figures, "expected_times_less": EXPECTED, "hit": hit, **counts, **facts}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"{'orchestration of a no-op trial on 2 workers':48} seconds")
    if "nested_trial_s" in figures:
        print(f"{'trainer per trial (Tune -> TorchTrainer.fit)':48} {figures['nested_trial_s']:7.2f}")
    print(f"{'lane, through Tune':48} {figures['lane_trial_s']:7.3f}")
    print(f"{'lane, job alone (median)':48} {figures['lane_job_s']:7.4f}")
    print(f"{'lane, once at the start':48} {figures['lane_start_s']:7.2f}")
    if "times_less" not in figures:
        return 0
    verdict = "hit" if hit else "miss"
    print(f"{figures['times_less']:.0f} times less per trial; expected at least {EXPECTED:g}: {verdict}")
    return 0 if hit else 1


if __name__ == "__main__":
    sys.exit(main())
