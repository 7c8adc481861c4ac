"""What the record costs: driver time per reported result against Ray's own MLflow callback, and runs a second.

The first part reports the same results both ways in turn: through `MLflowLoggerCallback`, which writes to an MLflow
server as it is called, and through the journal, from which the publisher writes to it outside of the driver.
The second part publishes an invented sweep from its journal and reads its front back.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ray.air.integrations.mlflow import MLflowLoggerCallback

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.server.board import open_mlflow
from paretta.dashboards.tracking.publisher import publish_sweep
from paretta.dashboards.tracking.reader import read_front
from paretta.dashboards.tracking.schema import allowed_name
from paretta.dashboards.tracking.store import default_uri, open_store

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "dashboards"))
from synthetic_sweep import write_sweep

# written before the measurement
SHARE, RUNS_A_SECOND, READ_S = 0.1, 5.0, 1.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=int, default=20, help="reported both ways")
    parser.add_argument("--trials", type=int, default=2_000, help="of the published sweep")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="paretta-record-") as scratch:
        ours, theirs = driver_seconds(Path(scratch), given.results)
        share = statistics.median(ours) / statistics.median(theirs)
        print(f"driver time per result: journal {statistics.median(ours) * 1e3:.2f} ms,", end=" ")
        print(
            f"Ray's callback {statistics.median(theirs) * 1e3:.1f} ms, share {share:.4f} (expected {SHARE:g} or less)"
        )
        rate, read_s = publishing(Path(scratch), given.trials)
        print(f"{given.trials} trials published at {rate:.1f} runs/s (expected {RUNS_A_SECOND:g} or more)")
        print(f"their front read back in {read_s:.2f} s (expected {READ_S:g} or less)")


def driver_seconds(scratch: Path, count: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each result by the journal and by Ray's callback, taken in turn."""
    record = write_sweep(scratch / "home" / "results", trials=count, artifacts=False)
    trials = [trial for trial in record.trials.values() if trial.role == "trial"]
    ours, theirs = [], []
    (scratch / "journal").mkdir()
    with open_mlflow(scratch / "home") as server, Journal(scratch / "journal") as journal:
        callback = MLflowLoggerCallback(server, experiment_name="ray")
        callback.setup()
        for trial in trials:
            values = {key: reading.value for key, reading in trial.readings.items()}
            told = {**values, "training_iteration": 1, "time_total_s": 1.0, "time_this_iter_s": 1.0, "timestamp": 1}
            told |= {f"loss_{step}": 0.5 for step in range(14 - len(told))}
            named = _Named({allowed_name(knob): value for knob, value in trial.knobs.items()}, trial.uid)
            callback.log_trial_start(named)
            told = {key: value for key, value in told.items() if value is not None}
            ours.append(_seconds(lambda trial=trial: journal.trial(trial)))
            theirs.append(_seconds(lambda named=named, told=told: callback.log_trial_result(1, named, told)))
    return ours, theirs


@dataclass(frozen=True, eq=False)
class _Named:
    """As much of a Tune trial as the callback looks at."""

    config: dict[str, object]
    trial_id: str


def publishing(scratch: Path, count: int) -> tuple[float, float]:
    """Return runs a second of publishing a sweep from its journal, and the seconds to read its front."""
    home = scratch / "many"
    write_sweep(home / "many", trials=count, artifacts=False)
    open_store(default_uri(home))  # making the tables is not publishing
    spent = _seconds(lambda: publish_sweep(SweepRecord.read(home / "many"), patience=600.0))
    return (count + 2) / spent, _seconds(lambda: read_front(default_uri(home), "many"))


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
