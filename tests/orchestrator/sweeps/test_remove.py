"""A removed sweep is gone from the disk and from MLflow, and no other is touched."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.tracking.publisher import publish_sweep
from paretta.dashboards.tracking.store import default_uri
from paretta.orchestrator.cli import main
from paretta.orchestrator.sweeps.remove import remove_sweep
from paretta.search_spaces.errors import WrongInput


def test_what_is_removed_is_gone_from_the_disk_and_from_mlflow(tmp_path: Path) -> None:
    for name in ("first", "second"):
        publish_sweep(write_sweep(tmp_path / name, trials=4, seed=len(name)))
    told = remove_sweep(tmp_path / "first")
    assert told == "first is removed; 6 runs are in MLflow's trash, its models are deleted"
    client = MlflowClient(default_uri(tmp_path), default_uri(tmp_path))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=100)
    assert {run.data.tags["sweep.name"] for run in runs} == {"second"}
    assert len(runs) == 6
    assert {model.tags["sweep.name"] for model in client.search_logged_models(experiments)} == {"second"}
    assert [model.name for model in client.search_registered_models()] == ["second"]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and path.name != "mlartifacts"] == ["second"]


def test_a_running_sweep_is_not_removed(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", trials=4).folder
    with Journal(folder), pytest.raises(WrongInput, match="another process"):
        remove_sweep(folder)
    assert (folder / "journal.jsonl").is_file()


def test_a_damaged_sweep_can_be_removed(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", trials=4).folder
    (folder / "journal.jsonl").write_text("{}\n")
    (tmp_path / "mlflow.db").touch()
    assert remove_sweep(folder) == "s is removed; MLflow keeps its runs, since its journal cannot be read"
    assert not folder.exists()


def test_nothing_is_removed_without_a_yes(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", trials=4).folder
    asked = ["remove", "s", "--home", str(tmp_path)]
    for arguments, given, code in ((asked, "n\n", 2), ([*asked, "--yes"], "", 0)):
        done = CliRunner().invoke(main, arguments, input=given)
        assert done.exit_code == code, done.output
        assert folder.exists() == (code == 2)
