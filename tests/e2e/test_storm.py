"""One small sweep on one lane, and everything under it is killed in turn; nothing is lost and nothing is paid twice."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dashboards.journal import SweepRecord, events

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
]  # a busy machine needs tens of seconds to bring back each of the processes

ROOT = Path(__file__).parents[2]
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


def below(driver: int, title: str) -> list[int]:
    """Process ids of this sweep's own cluster whose title holds `title`."""
    parents, found = {}, []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if title.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it ended meanwhile
    return [process for process in found if driver in ancestors(process, parents)]


def ancestors(process: int, parents: Mapping[int, int]) -> Iterator[int]:
    while process in parents:
        process = parents[process]
        yield process


def kill(title: str) -> Callable[[int], None]:
    return lambda driver: os.kill(below(driver, title)[0], signal.SIGKILL)


def freeze(driver: int) -> None:
    os.kill(below(driver, "ray::RayTrainWorker")[-1], signal.SIGSTOP)


BLOWS: dict[str, Callable[[int], None]] = {
    "a Train worker": kill("ray::RayTrainWorker"),
    "the lane's controller": kill("ray::TrainController"),
    "the lane's host": kill("ray::_Host"),
    "a Tune trial": kill("ray::ResourceTrainable"),
    "the gauge": kill("ray::_Gauge"),
    "a worker that hangs": freeze,
}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> SweepRecord:
    folder = tmp_path_factory.mktemp("storm")
    shutil.copy(ROOT / "examples" / "own_model" / "mytask.py", folder)
    (folder / "sweep.yaml").write_text(SWEEP)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    command = [sys.executable, "-m", "orchestrator", "launch", "sweep.yaml"]
    with (folder / "log").open("w") as log:
        driver = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    record = SweepRecord()
    for name, blow in BLOWS.items():
        ended = record.count("complete", "failed")
        record = until(
            lambda now, ended=ended: now.count("complete", "failed") > ended and bool(now.progress), folder, driver
        )
        print(f"{time.strftime('%X')} {name}, {record.count('complete', 'failed')} have ended")
        blow(driver.pid)
    assert driver.wait(300) == 1, (folder / "log").read_text()  # something failed, as it was meant to
    return SweepRecord.read(folder / "sweeps" / "sweep")


def until(ready: Callable[[SweepRecord], bool], folder: Path, driver: subprocess.Popen[bytes]) -> SweepRecord:
    """Wait until the sweep is as far as `ready` wants it."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert driver.poll() is None, (folder / "log").read_text()
        if (folder / "sweeps" / "sweep" / "journal.jsonl").exists():
            record = SweepRecord.read(folder / "sweeps" / "sweep")
            if ready(record):
                return record
        time.sleep(0.05)
    raise AssertionError((folder / "log").read_text())


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
        assert seen == sorted(seen), f"{uid} went back"  # an epoch may be told twice, and none before it
    assert not list((swept.folder / "checkpoints").iterdir())


def test_no_trial_that_ended_was_paid_for_again(swept: SweepRecord) -> None:
    endings = Counter[str]()
    for event, _ in events(swept.folder):
        match event:
            case {"event": "front"}:
                break
            case {"event": "trial", "trial": {"status": "complete" | "failed", "uid": uid}}:
                endings[str(uid)] += 1
    assert set(endings.values()) == {1}
