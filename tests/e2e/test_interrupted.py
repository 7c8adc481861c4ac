"""A sweep that is killed, stopped and resumed ends where one ends that nobody disturbed."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import mlflow
import pytest
from disturbed import another_trains, endings, started, until, user_folder

from dashboards.journal import SweepRecord

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]  # a busy machine needs minutes for three launches

# one lane and one worker: trials end in the order they are asked for, and training is repeatable bit for bit
SWEEP = """
task: {use: "./mytask.py:make"}
baseline: [{kind: train, epochs: 5, lr: 0.01, batch_size: 32}]
space:
  - {kind: prune, sparsity: {float: [0.0, 0.8]}}
  - {kind: quantize, bits: {int: [2, 8]}}
  - {kind: train, epochs: 30, lr: 0.005, batch_size: 32}
objectives: [size, accuracy]
search: {sampler: nsga2, trials: 6, seed: 3}
workers: {lanes: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("interrupted"), SWEEP)


@pytest.fixture(scope="module")
def told(folder: Path) -> Mapping[str, str]:
    """What was printed by each launch: one undisturbed, one killed, stopped, stopped at once and resumed to its end."""
    undisturbed = started(folder, "sweep.yaml", "--name", "whole")
    killed = started(folder, "sweep.yaml", "--name", "broken")
    until(another_trains(1), folder / "sweeps" / "broken", killed)
    killed.kill()  # SIGKILL: the driver cleans up nothing
    killed.communicate()
    stopped = started(folder, "--resume", "broken")
    until(another_trains(2), folder / "sweeps" / "broken", stopped)
    os.killpg(stopped.pid, signal.SIGINT)
    told = {"stopped": stopped.communicate(timeout=300)[0]}
    assert stopped.returncode == 130, told["stopped"]
    assert SweepRecord.read(folder / "sweeps" / "broken").status == "stopped"
    hurried = started(folder, "--resume", "broken")
    until(another_trains(3), folder / "sweeps" / "broken", hurried)
    hurried.send_signal(signal.SIGTERM)
    hurried.send_signal(signal.SIGINT)  # another signal, since two equal ones may arrive as one
    told["hurried"] = hurried.communicate(timeout=300)[0]
    assert hurried.returncode == 130, told["hurried"]
    resumed = started(folder, "--resume", "broken")
    for name, process in (("whole", undisturbed), ("resumed", resumed)):
        told[name] = process.communicate(timeout=400)[0]
        assert process.returncode == 0, told[name]
    return told


def test_a_stop_says_how_to_go_on_and_lets_what_runs_end(told: Mapping[str, str]) -> None:
    assert "SIGINT: what runs is finished first" in told["stopped"]
    assert "resume: paretta launch --resume broken" in told["stopped"]
    assert "Traceback" not in told["stopped"]
    assert "3 of 6 trials have ended" in told["stopped"]


def test_a_second_signal_leaves_what_runs_for_another_day(told: Mapping[str, str]) -> None:
    assert "resume: paretta launch --resume broken" in told["hurried"]
    assert "Traceback" not in told["hurried"]
    assert "3 of 6 trials have ended" in told["hurried"]


def test_the_front_is_as_if_nothing_had_happened(folder: Path, told: Mapping[str, str]) -> None:
    whole, broken = (SweepRecord.read(folder / "sweeps" / name) for name in ("whole", "broken"))
    assert set(whole.trials) == set(broken.trials)
    for uid, trial in whole.trials.items():
        again = broken.trials[uid]
        assert trial.status == again.status == "complete"
        assert trial.readings == again.readings
        assert trial.test_readings == again.test_readings
        assert digest(folder, "whole", uid) == digest(folder, "broken", uid)
    assert whole.frozen == broken.frozen
    assert (whole.status, broken.status) == ("done", "done")


def digest(folder: Path, sweep: str, uid: str) -> str:
    manifest = json.loads((folder / "sweeps" / sweep / "artifacts" / uid / "manifest.json").read_text())
    return str(manifest["files"]["model.onnx"])


def test_no_trial_that_ended_was_trained_again(folder: Path, told: Mapping[str, str]) -> None:
    counts = endings(folder / "sweeps" / "broken")
    assert set(counts.values()) == {1}
    assert len(counts) == 7


def test_every_trial_has_one_run_in_mlflow(folder: Path, told: Mapping[str, str]) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'sweeps' / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.`sweep.name` = 'broken'", max_results=100)
    record = SweepRecord.read(folder / "sweeps" / "broken")
    children = [run.data.tags["trial.uid"] for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert sorted(children) == sorted(record.trials)
    assert len(runs) == len(children) + 1
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_sweep_that_is_done_shows_its_front_again(folder: Path, told: Mapping[str, str]) -> None:
    done = started(folder, "--resume", "broken")
    assert "pull:   paretta pull broken" in done.communicate(timeout=60)[0]
    assert done.returncode == 0


def test_a_resumed_sweep_keeps_its_settings(folder: Path, told: Mapping[str, str]) -> None:
    refused = started(folder, "--resume", "broken", "--trials", "9", "--seed", "1")
    assert "--trials, --seed: a resumed sweep is the one that was stopped" in refused.communicate(timeout=60)[0]
    assert refused.returncode == 2


def test_data_that_changed_is_told(folder: Path, told: Mapping[str, str]) -> None:
    other = folder / "sweeps" / "other"
    other.mkdir()
    lines = (folder / "sweeps" / "broken" / "journal.jsonl").read_text().splitlines(keepends=True)
    changed = lines[0].replace('"data_digest": "', '"data_digest": "0')
    assert changed != lines[0]
    (other / "journal.jsonl").write_text(changed)
    refused = started(folder, "--resume", "other")
    assert "the task's data is not what the sweep began with" in refused.communicate(timeout=60)[0]
    assert refused.returncode == 2
