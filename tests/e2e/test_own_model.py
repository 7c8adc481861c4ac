"""A user's own model from an empty folder: launch, view, pull, run in plain ONNX Runtime, reproduce."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.reader import read_back

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model"
# one of the two learning rates is hopeless, so that the sweep has trials that fail
DIVERGING = """
task: {use: "./mytask.py:make", options: {hidden: 64}}
baseline: [{kind: train, epochs: 40, lr: 0.01, batch_size: 32}]
space:
  - {kind: prune, sparsity: 0.3}
  - {kind: train, epochs: 2, optimizer: sgd, lr: {choice: [0.01, 1.0e+18]}, batch_size: 32}
objectives: [size, accuracy]
search: {sampler: grey_box, stopper: index, trials: 2, good_plans: false, warm_start: [sweep]}
budget: {hours: 1}
deliver: {variants: [[{kind: quantize, bits: 8}], [{kind: quantize, bits: 3}]], at_most: 1}
workers: {lanes: 1}
"""

# secrets in an operator's environment that nobody else may read
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-storage",
    "MLFLOW_TRACKING_PASSWORD": "secret-of-the-store",
    "RAY_AUTH_TOKEN": "5ec4e7" * 10 + "abcd",
}
said: list[str] = []


def paretta(*arguments: str, folder: Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "paretta", *arguments]
    environment = {**os.environ, "HOME": str(folder / "home"), **SECRETS}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    said.append(done.stdout + done.stderr)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "home").mkdir()
    shutil.copy(EXAMPLE / "mytask.py", folder)
    sweep = (EXAMPLE / "sweep.yaml").read_text()
    assert "workers: {per_trial: 1}" in sweep
    (folder / "sweep.yaml").write_text(sweep.replace("{per_trial: 1}", "{per_trial: 1, lanes: 1}"))
    return folder


@pytest.fixture(scope="module")
def launched(folder: Path) -> str:
    return paretta("launch", "sweep.yaml", folder=folder)


def test_a_launch_tells_its_progress_and_ends_with_the_front(launched: str) -> None:
    assert "3 of 3 ended: 3 complete; hypervolume" in launched
    assert "hypervolume" in launched
    assert "baseline:" in launched
    assert "paretta pull sweep --prefer knee --to ./best" in launched


def test_nothing_is_written_outside_the_chosen_folder(folder: Path, launched: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["home", "mytask.py", "sweep.yaml", "sweeps"]
    assert not list((folder / "home").iterdir())


def test_front_and_status_speak_json(folder: Path, launched: str) -> None:
    front = json.loads(paretta("front", "sweep", "--json", folder=folder))
    assert front["schema"] == 2
    assert front["members"]
    status = json.loads(paretta("status", "sweep", "--json", folder=folder))
    assert (status["status"], status["trials"]) == ("done", {"complete": 3})
    assert "trials: 3 complete of 3 asked" in paretta("status", "sweep", folder=folder)


def test_what_is_pulled_is_what_was_measured(folder: Path, launched: str) -> None:
    paretta("pull", "sweep", "--prefer", "size", "--to", "small", folder=folder)
    pulled = folder / "small"
    assert sorted(path.name for path in pulled.iterdir()) == [
        "README.md",
        "manifest.json",
        "model.onnx",
        "plan.yaml",
        "readings.json",
        "sample.npz",
    ]
    readings = json.loads((pulled / "readings.json").read_text())
    assert readings["size"]["value"] == (pulled / "model.onnx").stat().st_size
    # plain ONNX Runtime in a process that cannot see our packages
    code = (
        "import numpy, onnxruntime, sys; session = onnxruntime.InferenceSession(sys.argv[1])\n"
        "inputs = numpy.load(sys.argv[2]); name = session.get_inputs()[0].name\n"
        "numpy.save(sys.argv[3], session.run(None, {name: inputs})[0])"
    )
    inputs, targets = _validation()
    np.save(folder / "inputs.npy", inputs)
    arguments = [str(pulled / "model.onnx"), str(folder / "inputs.npy"), str(folder / "outputs.npy")]
    subprocess.run([sys.executable, "-I", "-c", code, *arguments], cwd=folder, check=True)
    accuracy = (np.load(folder / "outputs.npy").argmax(1) == targets).mean()
    assert accuracy == pytest.approx(readings["accuracy"]["value"])


def test_a_metric_of_which_less_is_better_is_an_objective_like_any(folder: Path, launched: str) -> None:
    front = SweepRecord.read(folder / "sweeps" / "sweep").front()
    assert [objective.goal for objective in front.objectives] == ["min", "max", "min"]
    output = paretta("pull", "sweep", "--prefer", "surprise", "--to", "sure", folder=folder)
    reading = json.loads((folder / "sure" / "readings.json").read_text())["surprise"]
    assert f"surprise: {reading['value']:.4g} nats [" in output
    measured = [trial.readings["surprise"].value for trial in front.trials if trial.role != "confirmation"]
    assert reading["value"] == min(value for value in measured if value is not None)
    import onnxruntime
    import torch

    inputs, targets = _validation()
    outputs = onnxruntime.InferenceSession(folder / "sure" / "model.onnx").run(None, {"input": inputs})[0]
    expected = -torch.log_softmax(torch.from_numpy(outputs).double(), 1)[range(len(targets)), targets].mean()
    assert reading["value"] == pytest.approx(float(expected), rel=1e-5)
    assert "surprise: confirmed" in paretta("verify", "sure", "--task", "./mytask.py:make", folder=folder)


def test_a_damaged_copy_is_found_out(folder: Path, launched: str) -> None:
    paretta("pull", "sweep", "--to", "knee", folder=folder)
    assert "every file" in paretta("verify", "knee", folder=folder)
    model = folder / "knee" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    assert "model.onnx" in paretta("verify", "knee", folder=folder, code=1)


def test_a_wish_that_nothing_satisfies_names_the_nearest(folder: Path, launched: str) -> None:
    output = paretta("pull", "sweep", "--at-most", "size=10B", "--to", "none", folder=folder, code=2)
    assert "no member of the front has size at most 10 B" in output
    assert "the nearest are" in output
    assert not (folder / "none").exists()


def test_the_plan_of_a_trial_gives_the_same_bytes_again(folder: Path, launched: str) -> None:
    paretta("pull", "sweep", "--prefer", "accuracy", "--to", "first", folder=folder)
    paretta("run", "first/plan.yaml", "--to", "again", folder=folder)
    digests = [hashlib.sha256((folder / n / "model.onnx").read_bytes()).hexdigest() for n in ("first", "again")]
    assert digests[0] == digests[1]


def test_every_trial_is_a_child_run_of_the_sweep(folder: Path, launched: str) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'sweeps' / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=100)
    parents = [run for run in runs if run.data.tags["sweep.kind"] == "sweep"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(parents) == 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    record = SweepRecord.read(folder / "sweeps" / "sweep")
    assert {run.data.tags["trial.uid"] for run in children} == set(record.trials)
    members = {trial.uid for trial in record.front()}
    assert {run.data.tags["trial.uid"] for run in children if run.data.tags["pareto"] == "true"} == members
    assert all("test/accuracy" in run.data.metrics for run in children if run.data.tags["pareto"] == "true")


def test_a_sweep_with_failing_trials_ends_with_its_front(folder: Path, launched: str) -> None:
    (folder / "diverging.yaml").write_text(DIVERGING)
    output = paretta("launch", "diverging.yaml", folder=folder, code=1)
    status = json.loads(paretta("status", "diverging", "--json", folder=folder))
    assert status["trials"] == {"complete": 1, "failed": 1}
    assert all("diverged" in failure["reason"] for failure in status["failures"])
    assert "1 failed" in output
    assert "paretta pull diverging" in output
    assert "of 1 hours" in output


def test_a_trained_candidate_delivers_more_and_an_earlier_front_joins(folder: Path, launched: str) -> None:
    """Reads the sweep above."""
    record = SweepRecord.read(folder / "sweeps" / "diverging")
    (extra,) = (trial for trial in record.trials.values() if trial.role == "delivered")
    trained = record.trials[str(extra.of)]
    assert (trained.status, extra.status) == ("complete", "complete")
    assert extra.plan.stages == (*trained.plan.stages, {"kind": "quantize", "bits": 8})
    sizes = [trial.readings["size"].value for trial in (extra, trained)]
    assert sizes[0] is not None
    assert sizes[1] is not None
    assert sizes[0] < 0.5 * sizes[1]
    earlier = SweepRecord.read(folder / "sweeps" / "sweep").front()
    taken = [trial for trial in record.trials.values() if trial.role == "earlier"]
    assert {trial.uid for trial in taken} == {f"sweep-{t.uid}" for t in earlier if t.role == "trial"}
    assert all((record.folder / str(trial.artifact) / "model.onnx").exists() for trial in taken)


def test_no_secret_of_the_environment_was_written_or_said(folder: Path, launched: str) -> None:
    files = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    texts = {**files, **{f"what command {index} said": text.encode() for index, text in enumerate(said)}}
    assert any(name.endswith(("mlflow.db", "journal.jsonl", "publisher.log")) for name in texts)
    found = [(name, key) for name, text in texts.items() for key, secret in SECRETS.items() if secret.encode() in text]
    assert found == []


def _validation() -> tuple[np.ndarray, np.ndarray]:
    import torch

    from paretta.pipelines.loading.load_task import load_task

    task = load_task("./mytask.py:make", {}, EXAMPLE)
    inputs, targets = task.batch(task.validation, torch.arange(len(task.validation)))
    return inputs.numpy(), targets.numpy()


@pytest.mark.slow
def test_a_finished_sweep_is_extended_by_further_trials(folder: Path, launched: str) -> None:
    shutil.copytree(folder / "sweeps", folder / "more")
    before = SweepRecord.read(folder / "more" / "sweep")
    told = paretta("extend", "sweep", "--trials", "2", "--home", "more", folder=folder)
    assert "5 of 5 ended: 5 complete" in told
    after = SweepRecord.read(folder / "more" / "sweep")
    assert (after.status, after.count("complete")) == ("done", 5)
    assert after.config["search"]["trials"] == 5  # type: ignore[index, call-overload]
    assert len({trial.plan.fingerprint for trial in after.trials.values() if trial.role == "trial"}) == 5
    for uid, trial in before.trials.items():  # nothing was trained again
        assert (after.trials[uid].started, after.trials[uid].readings["size"]) == (
            trial.started,
            trial.readings["size"],
        )
    assert after.frozen == tuple(trial.uid for trial in after.front())
    assert all(trial.test_readings for trial in after.front())
    recorded = read_back(f"sqlite:///{folder / 'more' / 'mlflow.db'}", "sweep")
    assert {trial.uid: trial.status for trial in recorded} == {t.uid: t.status for t in after.trials.values()}
    assert "at least one trial must be added" in paretta("extend", "sweep", "--trials", "0", folder=folder, code=2)
