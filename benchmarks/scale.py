"""What one more trial costs when there were thousands: trials of no work through searcher, Tune, lane and journal.

All is as in a sweep but the training and the measuring: the lane's handler returns at once, and readings are made up.
The first and the last 200 trials are compared in the driver's CPU time and in wall time; then the searcher of such a
sweep is brought back from its journal alone.
"""

import argparse
import io
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from ray import tune

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.cluster.connect import connect
from paretta.orchestrator.lanes.pool import Job, LaneClient, LanePool, RankContext
from paretta.orchestrator.monitor.event_log import EventLog
from paretta.orchestrator.monitor.prometheus import SweepMetrics
from paretta.orchestrator.monitor.terminal import display
from paretta.orchestrator.search.interfaces import Strategy
from paretta.orchestrator.search.spec import Search
from paretta.orchestrator.search.suggester import Suggester
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.tune.callback import JournalCallback, record_asked
from paretta.orchestrator.tune.messages import STATUS_KEY
from paretta.orchestrator.tune.resume import history, replay_history
from paretta.orchestrator.tune.scheduler import RungScheduler
from paretta.orchestrator.tune.search_alg import TuneSearcher
from paretta.orchestrator.tune.trainable import TRIAL, trial_from_config
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.registry import SAMPLERS
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.space import Space

SPACE = Space.parse(
    [], [{"kind": "prune", "sparsity": {"float": [0.0, 0.9]}}, {"kind": "quantize", "bits": {"int": [2, 8]}}]
)
OBJECTIVES = (
    Objective("size", "min", "B"),
    Objective("latency", "min", "ratio"),
    Objective("accuracy", "max", "share"),
)
WINDOW = 200
MAX_RUNNING = 2
EXPECTED = {"s_per_trial": 0.2, "last_to_first": 1.5, "driver_mb": 1000.0, "restart_s": 10.0}


def no_op(payload: Mapping[str, object], rank: RankContext) -> int:
    """Train nothing, on every rank."""
    return rank.rank


def made_up(trial: Trial) -> Trial:
    """Complete a trial with readings that follow from its knobs, and luck as training has it.

    Without luck no knob would ever be better than another and all trials would stay on the front.
    """
    bits, sparsity = float(str(trial.knobs["quantize.bits"])), float(str(trial.knobs["prune.sparsity"]))
    size, latency = 1e4 * bits * (1 - sparsity), 1 - sparsity / 2 + bits / 100
    readings = {"size": Reading(size, "B"), "latency": Reading(latency, "ratio")}
    luck = random.Random(f"{bits} {sparsity}").random()
    readings["accuracy"] = Reading(1 - 0.5 / bits - sparsity**3 / 2 - 0.1 * luck, "share")
    return replace(trial, status="complete", readings=readings, finished=time.time())


class NoWork(tune.Trainable):
    """A candidate that hands one empty job to the lane and reports.

    No trial ends before Tune has all actors at work, as part of the warm-up: a trial that ends sooner than the next
    actor starts lends its own, and Tune throws away the process that it has begun to start, trial after trial.
    """

    def setup(self, config: dict[str, object], client: LaneClient, actors: Path) -> None:
        """Keep the way to the lane."""
        self.client, self.actors = client, actors
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, object]) -> bool:
        """Take the next candidate."""
        self.trial = trial_from_config(new_config, 0)
        return True

    def step(self) -> dict[str, object]:
        """Run the job and report."""
        (self.actors / str(os.getpid())).touch()
        self.client.submit(Job(self.trial.uid, {}))
        self.client.result(self.trial.uid, timeout_s=60.0)
        while len([*self.actors.iterdir()]) < MAX_RUNNING:
            time.sleep(0.1)
        done = made_up(self.trial)
        values = {meter: reading.value for meter, reading in done.readings.items()}
        return {**values, STATUS_KEY: "complete", TRIAL: json.dumps(done.to_document()), "done": True}


def measure(num_trials: int, sampler_name: str) -> dict[str, float]:
    """Run the trials, then bring the searcher back; return the figures."""
    stamps: list[tuple[float, float]] = []

    class Stamping(EventLog):
        def trial(self, trial: Trial) -> None:
            super().trial(trial)
            if trial.status == "complete":
                stamps.append((time.perf_counter(), time.process_time()))

    sampler = cast(Callable[[Search], Strategy], SAMPLERS.load(sampler_name))
    search = Search(SPACE, OBJECTIVES, num_trials)
    with tempfile.TemporaryDirectory() as name, connect(num_cpus=1) as cluster:
        folder = Path(name)
        with (
            LanePool(no_op, storage=folder / "ray", workers_per_lane=1, start_timeout_s=170.0) as lanes,
            Journal(folder) as journal,
            display(num_trials, io.StringIO()) as shown,
        ):
            lanes.submit(Job("warm-up", {}))
            lanes.result("warm-up", timeout_s=170.0)
            record = SweepRecord(name="scale", folder=folder)
            log = Stamping(journal, shown, SweepFiles(folder), record, SweepMetrics())
            log.sweep(name="scale", config={"search": {"trials": num_trials}}, objectives=OBJECTIVES, facts={})
            callback, asked = JournalCallback(log), partial(record_asked, log, 0)
            actors = folder / "actors"
            actors.mkdir()

            def make() -> TuneSearcher:
                return TuneSearcher(Suggester(search, sampler(search)), max_running=MAX_RUNNING, asked=asked)

            searcher = make()
            tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(NoWork, client=lanes.client, actors=actors), cluster.trial_resources()
                ),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=RungScheduler(searcher.suggester, lambda _: None),
                    num_samples=num_trials,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=str(folder / "ray"),
                    callbacks=[callback],
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    verbose=0,
                ),
            ).fit()
        begun = time.perf_counter()
        SweepRecord.read(folder)
        searcher, same = replay_history(make, tuple(history(folder)))
        restart = time.perf_counter() - begun
        assert same
        assert len(searcher.suggester.asked) == num_trials == len(stamps)
    (first_wall, first_cpu), (last_wall, last_cpu) = window(stamps[:WINDOW]), window(stamps[-WINDOW:])
    return {
        "s_per_trial_first": first_wall,
        "s_per_trial": last_wall,
        "driver_cpu_first": first_cpu,
        "driver_cpu": last_cpu,
        "last_to_first": last_cpu / first_cpu,
        "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "restart_s": restart,
    }


def window(stamps: list[tuple[float, float]]) -> tuple[float, float]:
    """Return wall and CPU seconds a trial."""
    count = len(stamps) - 1
    return (stamps[-1][0] - stamps[0][0]) / count, (stamps[-1][1] - stamps[0][1]) / count


def main() -> int:
    """Measure, print the table and say which expectations were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--sampler", default="random", help="whose own cost is part of the driver's (default: random)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    figures = measure(arguments.trials, arguments.sampler)
    if arguments.json is not None:
        document = {
            **figures,
            "trials": arguments.trials,
            "sampler": arguments.sampler,
            "load_before": load,
            "expected": EXPECTED,
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"{arguments.trials} trials of no work, sampler {arguments.sampler}; load before {load:.1f}")
    for name, value in figures.items():
        bound = EXPECTED.get(name)
        verdict = "" if bound is None else f"   expected at most {bound:g}: {'hit' if value <= bound else 'miss'}"
        print(f"{name:20} {value:9.4f}{verdict}")
    return 0 if all(figures[name] <= bound for name, bound in EXPECTED.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
