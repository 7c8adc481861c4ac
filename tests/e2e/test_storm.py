"""A small sweep on one lane while its processes are killed one by one; no trial is lost or trained twice."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest
from disturbed import PATIENCE_S, another_trains, below, endings, started, until, user_folder

from paretta.dashboards.journal.journal import events
from paretta.dashboards.journal.record import SweepRecord

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
]  # a busy machine needs tens of seconds to bring back each of the processes

# a third of the learning rates is hopeless: these trials fail by their own fault, and no others may
SWEEP = """
task: {use: "./mytask.py:make"}
baseline: [{kind: train, epochs: 3, lr: 0.01, batch_size: 32}]
space:
  - {kind: prune, sparsity: {float: [0.0, 0.8]}}
  - {kind: quantize, bits: {int: [2, 8]}}
  - {kind: train, epochs: 60, optimizer: sgd, lr: {choice: [0.01, 0.02, 1.0e+18]}, batch_size: 16}
objectives: [size, accuracy]
search: {sampler: random, trials: 16, seed: 1}
workers: {per_trial: 2, lanes: 1, cpus: 0.5, hung_after_s: 4, attempts: 6}
"""


def kill(title: str) -> Callable[[int], None]:
    return lambda driver: os.kill(below(driver, title)[0], signal.SIGKILL)


def freeze(driver: int) -> None:
    os.kill(below(driver, "ray::RayTrainWorker")[-1], signal.SIGSTOP)


BLOWS: dict[str, Callable[[int], None]] = {
    "a Train worker": kill("ray::RayTrainWorker"),
    "the lane's controller": kill("ray::TrainController"),
    "the lane's host": kill("ray::Host"),
    "a Tune trial": kill("ray::ResourceTrainable"),
    "the measuring actor": kill("ray::_Gauge"),
    "a worker that hangs": freeze,
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> SweepRecord:
    folder = user_folder(tmp_path_factory.mktemp("storm"), SWEEP)
    driver, sweep, ended = started(folder, "sweep.yaml"), folder / "sweeps" / "sweep", 0
    for name, blow in BLOWS.items():
        record = until(another_trains(ended + 1), sweep, driver)
        ended = record.count("complete", "failed")
        print(f"{time.strftime('%X')} {name}, {ended} have ended")
        blow(driver.pid)
    output, _ = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 1, output  # something failed, as it was meant to
    return SweepRecord.read(sweep)


def test_every_trial_ends_and_fails_only_by_its_own_fault(swept: SweepRecord) -> None:
    assert swept.status == "done"
    trials = [trial for trial in swept.trials.values() if trial.role == "trial"]
    assert len(trials) == 16
    hopeless = {trial.uid for trial in trials if trial.plan.stages[2]["lr"] == 1e18}
    assert 0 < len(hopeless) < 16
    failed = {trial.uid: trial.reason for trial in trials if trial.status == "failed"}
    assert set(failed) == hopeless
    assert all("diverged" in str(reason) for reason in failed.values())
    assert Counter(trial.status for trial in trials) == {"complete": 16 - len(hopeless), "failed": len(hopeless)}
    assert all(not trial.readings for trial in trials if trial.status == "failed")


def test_a_training_goes_on_from_its_last_epoch(swept: SweepRecord) -> None:
    epochs: dict[str, list[int]] = {}
    for event, _ in events(swept.folder):
        match event:
            case {"event": "progress", "uid": uid, "message": {"epoch": int(epoch)}}:
                epochs.setdefault(str(uid), []).append(epoch)
    assert max(map(max, epochs.values())) > 30
    for uid, seen in epochs.items():
        assert seen == sorted(seen), f"{uid} went back"  # an epoch may be reported twice, but no earlier one
    assert not list((swept.folder / "checkpoints").iterdir())


def test_no_trial_that_ended_was_paid_for_again(swept: SweepRecord) -> None:
    assert set(endings(swept.folder).values()) == {1}
