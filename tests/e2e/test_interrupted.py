"""A sweep that is killed, stopped and resumed ends with the same result as an undisturbed one."""

import json
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import mlflow
import pytest
from disturbed import PATIENCE_S, another_trains, below, endings, started, until, user_folder

from paretta.dashboards.journal.record import SweepRecord

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
search: {sampler: nsga2, trials: 7, seed: 3}
workers: {lanes: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("interrupted"), SWEEP)


@pytest.fixture(scope="module")
def told(folder: Path) -> Mapping[str, str]:
    """The output of two sweeps: one undisturbed, and one that is ended in every way and resumed each time."""
    undisturbed, sweep, told = started(folder, "sweep.yaml", "--name", "whole"), folder / "sweeps" / "broken", {}
    launch = partial(started, folder, "--resume", "broken")
    killed = started(folder, "sweep.yaml", "--name", "broken")
    until(another_trains(1), sweep, killed)
    killed.kill()  # SIGKILL: the driver cleans up nothing
    killed.communicate()

    interrupted = launch()
    going = until(another_trains(2), sweep, interrupted).progress
    os.killpg(interrupted.pid, signal.SIGINT)  # as a terminal does
    told["SIGINT"] = stopped(interrupted, sweep, going)
    terminated = launch()
    going = until(another_trains(3), sweep, terminated).progress
    os.killpg(terminated.pid, signal.SIGTERM)  # as a batch system does
    told["SIGTERM"] = stopped(terminated, sweep, going)

    hurried = launch()
    until(another_trains(4), sweep, hurried)
    os.kill(below(hurried.pid, "ray::RayTrainWorker")[0], signal.SIGSTOP)  # so that it cannot end between the two
    os.killpg(hurried.pid, signal.SIGINT)
    heard = read_until("SIGINT: finishing running trials first", hurried)
    os.killpg(hurried.pid, signal.SIGINT)
    told["SIGINT twice"] = heard + stopped(hurried, sweep)
    (state,) = (sweep / "checkpoints").glob("*/*.safetensors")
    assert SweepRecord.read(sweep).trials[state.parent.name].status == "running"  # it is left for another day
    flip_a_bit(state)

    resumed = launch()
    for name, process in (("whole", undisturbed), ("resumed", resumed)):
        told[name] = process.communicate(timeout=PATIENCE_S)[0]
        assert process.returncode == 0, told[name]
    return {**told, "trained": state.parent.name}


def stopped(process: subprocess.Popen[str], sweep: Path, finished: Iterable[str] = ()) -> str:
    """Return the output of a launch that is stopped once the trials in `finished` have ended, and reports it."""
    printed = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 130, printed
    record = SweepRecord.read(sweep)
    assert record.status == "stopped"
    assert {record.trials[uid].status for uid in finished} <= {"complete"}
    assert f"{record.count('complete', 'failed')} of 7 trials have ended" in printed
    assert "Traceback" not in printed
    assert "resume: paretta launch --resume broken" in printed
    return printed


def num_ended(printed: str) -> int:
    return int(printed.partition(" of 7 trials have ended")[0].rpartition(" ")[2])


def read_until(text: str, process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or text not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], "".join(lines)
    return "".join(lines)


def flip_a_bit(state: Path) -> None:
    """Damage a file as a bad disk does: its last byte is one of a tensor's, and nothing else shows it."""
    content = state.read_bytes()
    state.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(("signal_name", "ended"), [("SIGINT", 3), ("SIGTERM", 4)])
def test_a_signal_lets_what_runs_end_and_says_how_to_go_on(
    told: Mapping[str, str], signal_name: str, ended: int
) -> None:
    assert f"{signal_name}: finishing running trials first" in told[signal_name]
    assert num_ended(told[signal_name]) >= ended  # a busy machine lets more end between two looks at the journal


def test_a_second_one_leaves_what_runs_for_another_day(told: Mapping[str, str]) -> None:
    assert 4 <= num_ended(told["SIGINT twice"]) < 7


def test_a_damaged_state_is_told_and_its_training_starts_again(told: Mapping[str, str]) -> None:
    told_of = (
        f"{told['trained']}: a saved state cannot be read (it is damaged: its checksum does not match its content)"
    )
    assert f"{told_of}; its training starts again" in told["resumed"]


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
    assert len(counts) == 8


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
    assert "the task's data has changed since the sweep started" in refused.communicate(timeout=60)[0]
    assert refused.returncode == 2
