"""Compares samplers by real sweeps of the digits preset through Ray: hypervolume by the epochs that were trained.

    python -m benchmarks.search.digits --seeds 5

Every search starts from the same plans and is asked for the same number of trials; seeds alternate between searches, so
that the machine's load falls on all alike. Epochs are the unit of cost because they do not depend on the load; the wall
time of each sweep is printed beside. With two or more seeds the last lines hold means and 95 % bootstrap intervals.
"""

import argparse
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np

from paretta.dashboards.journal.journal import events
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.sweeps.launcher import launch
from paretta.search_spaces.canonical import Document

SEARCHES = ("tpe+none", "grey_box+none", "grey_box+index")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--searches", nargs="*", default=list(SEARCHES), metavar="SAMPLER+STOPPER")
    parser.add_argument("--out", type=Path, help="keep the curves in this JSON file, and go on from what it holds")
    options = parser.parse_args()
    curves: dict[str, dict[str, list[list[float]]]] = {}
    if options.out and options.out.exists():
        curves = json.loads(options.out.read_text())
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for search in options.searches:
            if str(seed) in curves.setdefault(search, {}):
                continue
            curves[search][str(seed)] = run(search, seed, options.trials)
            if options.out:
                options.out.write_text(json.dumps(curves))
    report(curves)


def run(search: str, seed: int, num_trials: int) -> list[list[float]]:
    """Launch one sweep; return epochs spent and hypervolume after each of its trials."""
    sampler, _, stopper = search.partition("+")
    begun = time.time()
    with TemporaryDirectory(prefix="paretta-") as home:
        front = launch(Sweep.read("digits"), home=home, sampler=sampler, stopper=stopper, seed=seed, trials=num_trials)
        curve = _curve(front.folder)
    load = os.getloadavg()[0]
    print(
        f"{search} seed {seed}: hypervolume {curve[-1][1]:.3f} after {curve[-1][0]:.0f} epochs, "
        f"{time.time() - begun:.0f} s, load {load:.1f}",
        flush=True,
    )
    return curve


def _curve(folder: Path) -> list[list[float]]:
    record = SweepRecord.read(folder)
    epochs: dict[str, int] = {}
    for event, _ in events(folder):
        if event["event"] == "progress" and "epoch" in (message := cast(Document, event["message"])):
            epochs[str(event["uid"])] = cast(int, message["epoch"])
    own = {trial.uid for trial in record.trials.values() if trial.role == "trial"}
    spent, points = 0, []
    for step in record.history():
        if step.uid in own:
            spent += epochs.get(step.uid, 0)
            points.append([float(spent), step.hypervolume])
    return points


def report(curves: dict[str, dict[str, list[list[float]]]]) -> None:
    """Print the mean hypervolume by epochs trained and by trials."""
    for unit, column in (("epochs trained", 0), ("trials", None)):
        ends = [points[-1][0] if column == 0 else len(points) for seeds in curves.values() for points in seeds.values()]
        at = [max(ends) * share for share in (0.25, 0.5, 0.75, 1.0)]
        print(f"\nhypervolume by {unit}" + "".join(f"{budget:>24.3g}" for budget in at))
        for search, seeds in curves.items():
            rows = np.array([[_reached(points, budget, column) for budget in at] for points in seeds.values()])
            print(f"{search:24s}" + "".join(f"{_cell(rows[:, i]):>24s}" for i in range(len(at))))


def _reached(points: list[list[float]], budget: float, column: int | None) -> float:
    done = [volume for count, (epochs, volume) in enumerate(points, 1) if (epochs if column == 0 else count) <= budget]
    return done[-1] if done else 0.0


def _cell(values: np.ndarray) -> str:
    if len(values) < 2:
        return f"{values.mean():.3f} (n=1)"
    drawn = values[np.random.default_rng(0).integers(len(values), size=(2000, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
