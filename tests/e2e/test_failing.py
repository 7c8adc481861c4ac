"""Three trials of ten fail at random and no checkpoint can be written: the sweep finishes and reports both."""

import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from disturbed import PATIENCE_S, another_trains, endings, started, until, user_folder
from optuna.trial import TrialState

from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.config.build_search import suggester_of
from paretta.orchestrator.config.check import check
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.search.optuna_strategy import STATES, OptunaStrategy
from paretta.orchestrator.tune.resume import history, replay_history
from paretta.orchestrator.tune.search_alg import TuneSearcher
from paretta.pipelines.artifact import verify_files
from paretta.search_spaces.results.trial import Trial

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

NUM_TRIALS, NUM_STEPS = 16, 60  # of 20 epochs with 3 batches
CHANCE = 1 - 0.7 ** (1 / NUM_STEPS)  # at each step; over a training it is 30 %
SWEEP = f"""
task: {{use: "./mytask.py:make"}}
baseline: [{{kind: train, epochs: 3, lr: 0.01, batch_size: 32}}]
space:
  - {{kind: prune, sparsity: {{float: [0.0, 0.8]}}}}
  - {{kind: quantize, bits: {{int: [2, 8]}}}}
  - {{kind: train, epochs: 20, lr: {{float: [0.001, 0.02], log: true}}, batch_size: 32}}
objectives: [size, accuracy]
search: {{sampler: tpe, trials: {NUM_TRIALS}, seed: 1}}
workers: {{lanes: 1}}
"""
# the first steps of a process are the baseline's, without which there is no sweep
UNLUCKY = f"""
import random

LUCK, steps = random.Random(0), 0


def unlucky(outputs, targets):
    global steps
    steps += 1
    if LUCK.random() < {CHANCE} and steps > 9:
        raise ConnectionError("the data server hung up")
    return nn.functional.cross_entropy(outputs, targets)
"""


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep at its end: what it printed, and whether its training states had a small disk to themselves."""

    record: SweepRecord
    printed: str
    disk: bool


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    folder = user_folder(tmp_path_factory.mktemp("failing"), SWEEP)
    task = (folder / "mytask.py").read_text()
    (folder / "mytask.py").write_text(task.replace("loss=nn.functional.cross_entropy", "loss=unlucky") + UNLUCKY)
    driver, sweep = started(folder, "sweep.yaml"), folder / "sweeps" / "sweep"
    until(another_trains(1), sweep, driver)
    states = sweep / "checkpoints"
    disk = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", states], capture_output=True, check=False)
    try:
        printed, _ = driver.communicate(timeout=PATIENCE_S)
        assert driver.returncode == 1, printed  # something failed
        yield Swept(SweepRecord.read(sweep), printed, disk.returncode == 0)
    finally:
        driver.kill()
        if disk.returncode == 0:
            subprocess.run(["umount", states], check=True)


def searched(swept: Swept) -> list[Trial]:
    return sorted((t for t in swept.record.trials.values() if t.role == "trial"), key=lambda trial: trial.number)


def test_the_sweep_ends_and_each_failure_has_its_reason(swept: Swept) -> None:
    assert swept.record.status == "done"
    found = Counter(trial.status for trial in searched(swept))
    assert found.keys() == {"complete", "failed"}
    assert found.total() == NUM_TRIALS
    assert 1 < found["failed"] < NUM_TRIALS - 4
    for trial in searched(swept):
        if trial.status == "failed":
            assert trial.reason is not None
            assert trial.reason.startswith("train: a batch of task.train, samples ")
            assert "training on it failed: ConnectionError: the data server hung up (at " in trial.reason
            assert trial.readings == {}
            assert f"trial {trial.number}: {trial.reason}" in swept.printed
        else:
            assert trial.artifact is not None
            verify_files(swept.record.folder / trial.artifact)
    assert set(endings(swept.record.folder).values()) == {1}
    assert "Traceback" not in swept.printed


def test_the_sampler_is_told_of_a_failure_and_of_no_number(swept: Swept) -> None:
    sweep = Sweep.read(str(swept.record.folder.parents[1] / "sweep.yaml"))
    checked, baseline = check(sweep), swept.record.trials["baseline"].readings

    def make() -> TuneSearcher:
        return TuneSearcher(suggester_of(sweep, checked, baseline, lambda *_, **__: None), max_running=2)

    searcher, same = replay_history(make, tuple(history(swept.record.folder)))
    assert same  # the sweep's sampler proposed what a sampler proposes that was told of the same failures
    strategy = searcher.suggester.strategy
    assert isinstance(strategy, OptunaStrategy)
    told = strategy.study.get_trials(deepcopy=False)
    assert [trial.state for trial in told] == [STATES[trial.status] for trial in searched(swept)]
    assert all(trial.values is None for trial in told if trial.state == TrialState.FAIL)


def test_a_full_disk_for_training_states_is_told_and_costs_no_trial(swept: Swept) -> None:
    if not swept.disk:
        pytest.skip("no small file system can be mounted here")
    lines = [line for line in swept.printed.splitlines() if "the training goes on without saving its state" in line]
    assert len(lines) == 1  # the same text once
    assert "No space left on device" in lines[0]
    assert not list((swept.record.folder / "checkpoints").rglob("*.*"))
