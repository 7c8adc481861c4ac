"""A sweep that is removed, renamed or archived is so on the disk, in all lists and in MLflow; no other is touched."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.server.board import links
from paretta.dashboards.server.live import LivePages
from paretta.dashboards.tracking.publisher import publish_sweep, publisher_lock
from paretta.dashboards.tracking.reader import download_registered, read_back
from paretta.dashboards.tracking.store import StoreUnavailable, default_uri
from paretta.dashboards.tracking.sync_status import SyncStatus, write_sync_status
from paretta.orchestrator.cli import main
from paretta.orchestrator.storage.home import Home
from paretta.orchestrator.sweeps.housekeeping import archive_sweep, remove_sweep, rename_sweep, restore_sweep
from paretta.search_spaces.errors import WrongInput


def _client(home: Path) -> MlflowClient:
    return MlflowClient(default_uri(home), default_uri(home))


def _runs(home: Path, sweep: str = "", view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    client = _client(home)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    mine = f"tags.`sweep.name` = '{sweep}'" if sweep else ""
    return list(client.search_runs(experiments, mine, run_view_type=view, max_results=100))


def test_what_is_removed_is_gone_from_the_disk_and_from_mlflow(home: Path) -> None:
    told = remove_sweep(home / "first")
    assert told == "first is removed; 6 runs are in MLflow's trash, its models are deleted"
    assert {run.data.tags["sweep.name"] for run in _runs(home)} == {"second"}
    assert len(_runs(home)) == 6
    client = _client(home)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert {model.tags["sweep.name"] for model in client.search_logged_models(experiments)} == {"second"}
    assert [model.name for model in client.search_registered_models()] == ["second"]
    assert [path.name for path in home.iterdir() if path.is_dir()] == ["second"]


def test_a_renamed_sweep_has_its_new_name_on_the_disk_and_everywhere_in_mlflow(home: Path, tmp_path: Path) -> None:
    (home / "first" / "report.html").write_text("of before")
    before = {run.info.run_id for run in _runs(home, "first")}
    assert len(before) == 6
    told = rename_sweep(home / "first", "my first")
    assert told == "first is called my first; 6 runs in MLflow have the name, its models are models:/my first"
    assert not (home / "first").exists()
    assert Home(home).sweeps() == ("my first", "second")
    assert "--home" in (home / "my first" / "report.html").read_text(encoding="utf-8")
    assert {run.info.run_id for run in _runs(home, "my first")} == before
    assert _runs(home, "first") == []
    (parent,) = [run for run in _runs(home, "my first") if run.data.tags["sweep.kind"] == "sweep"]
    assert parent.info.run_name == "my first"
    client = _client(home)
    (experiment,) = [found for found in client.search_experiments() if found.name == "paretta digits"]
    titles = {json.loads(value)["name"] for key, value in experiment.tags.items() if "sharedViewState" in key}
    assert titles == {
        f"{name}: {view}" for name in ("my first", "second") for view in ("front", "all trials", "failures")
    }
    models = {model.tags["sweep.name"] for model in client.search_logged_models([experiment.experiment_id])}
    assert models == {"my first", "second"}
    assert [model.name for model in client.search_registered_models()] == ["my first", "second"]
    assert read_back(default_uri(home), "my first") == sorted(
        SweepRecord.read(home / "my first").trials.values(), key=lambda trial: trial.number
    )
    assert (download_registered(default_uri(home), "models:/my first@knee", tmp_path / "best") / "model.onnx").is_file()
    publish_sweep(home / "my first")  # changes nothing more
    assert {run.info.run_id for run in _runs(home)} >= before
    assert len(_runs(home)) == 12


def test_a_registered_model_with_a_name_of_its_own_keeps_it(home: Path) -> None:
    _client(home).rename_registered_model("first", "ours")
    assert rename_sweep(home / "first", "new").endswith("its models are models:/ours")
    assert [model.name for model in _client(home).search_registered_models()] == ["ours", "second"]


def test_a_store_that_fails_midway_gets_the_name_with_the_next_publication(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StoreUnavailable("no route")

    with monkeypatch.context() as patched:
        patched.setattr("paretta.dashboards.tracking.lifecycle.publish_sweep", fails)
        with pytest.raises(
            StoreUnavailable, match=r"called new on the disk, but not in MLflow: no route; .*publish new"
        ):
            rename_sweep(home / "first", "new")
    publish_sweep(home / "new")
    assert len(_runs(home, "new")) == 6
    assert [model.name for model in _client(home).search_registered_models()] == ["new", "second"]


def test_an_archived_sweep_is_in_no_list_until_it_is_brought_back(home: Path) -> None:
    runs = {run.info.run_id for run in _runs(home, "first")}
    assert archive_sweep(home / "first") == "first is archived; 6 runs are in MLflow's trash"
    assert (Home(home).sweeps(), Home(home).archived()) == (("second",), ("first",))
    assert Home(home).find("first") == home / "first"
    assert {run.data.tags["sweep.name"] for run in _runs(home)} == {"second"}
    assert [model.name for model in _client(home).search_registered_models()] == ["first", "second"]
    pages = LivePages(home, None, {})
    assert ">first<" not in pages.index()
    assert 'href="/?archived=1">1 archived<' in pages.index()
    assert "<td>archived, done</td>" in pages.index(archived=True)
    assert pages.sweep("first") is not None
    assert not any(line.startswith("first") for line in links(home, "http://x"))
    with pytest.raises(
        WrongInput, match="an archived sweep is not published; bring it back with `paretta archive --undo"
    ):
        publish_sweep(home / "first")
    assert restore_sweep(home / "first") == "first is back; 6 runs are in MLflow again"
    assert {run.info.run_id for run in _runs(home, "first")} == runs
    assert Home(home).sweeps() == ("first", "second")
    assert ">first<" in pages.index()


def test_an_archived_sweep_can_be_renamed_and_removed(home: Path) -> None:
    archive_sweep(home / "first")
    assert rename_sweep(home / "first", "old") == "first is called old; MLflow takes the name when it is brought back"
    restore_sweep(home / "old")
    assert len(_runs(home, "old")) == 6
    archive_sweep(home / "old")
    assert remove_sweep(home / "old") == "old is removed; 6 runs are in MLflow's trash, its models are deleted"


def test_the_verbs_rename_archive_and_list(tmp_path: Path) -> None:
    write_sweep(tmp_path / "a", trials=2, artifacts=False)
    at = ("--home", str(tmp_path))

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(main, [*arguments, *at], env={"COLUMNS": "80"})
        assert done.exit_code == 0, done.output
        return done.output

    assert call("rename", "a", "b") == "a is called b; there is no MLflow store\n"
    assert call("archive", "b") == "b is archived; there is no MLflow store\n"
    assert call("list") == f"no sweep is in {tmp_path} (1 archived: paretta list --archived)\n"
    assert call("list", "--json") == "[]\n"
    (described,) = json.loads(call("list", "--archived", "--json"))
    assert (described["sweep"], described["archived"], described["status"]) == ("b", True, "done")
    assert "archived, done" in call("list", "--archived")
    assert call("front", "b")
    refused = CliRunner().invoke(main, ["launch", "--resume", "b", *at])
    assert (refused.exit_code, "this sweep is archived; bring it back with" in refused.output) == (2, True)
    assert call("archive", "--undo", "b") == "b is back; there is no MLflow store\n"
    assert call("list").splitlines()[-1].split()[0] == "b" or "b " in call("list")


@pytest.mark.parametrize(
    "act", [remove_sweep, archive_sweep, lambda folder: rename_sweep(folder, "t")], ids=["remove", "archive", "rename"]
)
def test_a_running_sweep_is_left_alone(tmp_path: Path, act: Callable[[Path], str]) -> None:
    folder = write_sweep(tmp_path / "s", trials=4).folder
    with Journal(folder), pytest.raises(WrongInput, match="another process is running this sweep; wait for it"):
        act(folder)
    assert Home(tmp_path).sweeps() == ("s",)


def test_a_sweep_that_is_being_published_is_not_renamed(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", trials=4, artifacts=False).folder
    with publisher_lock(folder), pytest.raises(WrongInput, match="another process is publishing this sweep"):
        rename_sweep(folder, "t")
    assert folder.is_dir()


def test_names_that_are_taken_or_not_allowed_and_archives_in_vain_are_refused(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", trials=2, artifacts=False).folder
    (tmp_path / "taken").mkdir()
    with pytest.raises(WrongInput, match=r"NEW: .* already has a sweep of this name; got 'taken'; choose another"):
        rename_sweep(folder, "taken")
    with pytest.raises(WrongInput, match=r"NEW: a sweep's name is 1 to 64 letters.*got 'a/b'"):
        rename_sweep(folder, "a/b")
    with pytest.raises(WrongInput, match="archive --undo: this sweep is not archived; got 's'"):
        restore_sweep(folder)
    archive_sweep(folder)
    with pytest.raises(WrongInput, match="archive: this sweep is archived already; got 's'"):
        archive_sweep(folder)


def test_sweeps_that_began_from_a_renamed_one_are_told(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", trials=2, artifacts=False)
    other = write_sweep(tmp_path / "later", trials=2, artifacts=False).folder / "journal.jsonl"
    other.write_text(other.read_text().replace('"sampler": "tpe"', '"sampler": "tpe", "warm_start": ["s"]'))
    told = "later began from its results and can go on only while it has the old name"
    assert rename_sweep(tmp_path / "s", "t") == f"s is called t; there is no MLflow store; {told}"


def test_a_store_whose_password_is_unknown_must_be_given(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", trials=2, artifacts=False).folder
    write_sync_status(folder, SyncStatus("postgresql://ann:***@db/mlflow"))
    for act in (remove_sweep, archive_sweep):
        with pytest.raises(
            WrongInput, match=r"--tracking-uri: it is recorded in a store with a password; got 'postgresql"
        ):
            act(folder)
    write_sync_status(folder, SyncStatus("http://127.0.0.1:9"))
    with pytest.raises(WrongInput, match="the store cannot be reached"):
        rename_sweep(folder, "t")
    assert folder.is_dir()


@pytest.mark.parametrize(
    "arguments",
    [
        ["rename", "first", "new"],
        ["archive", "first"],
        ["remove", "first", "--yes"],
        ["pull", "first", "--to", "best"],
        ["pull", "models:/first@knee", "--to", "best"],
    ],
)
def test_a_store_that_does_not_exist_is_told_and_not_created(home: Path, arguments: list[str]) -> None:
    missing = home / "other" / "mlflow.db"
    given = ["--home", str(home), "--tracking-uri", f"sqlite:///{missing}"]
    result = CliRunner().invoke(main, [*arguments, *given])
    assert result.exit_code == 2
    assert f"there is none in {missing}" in result.stderr
    assert Home(home).sweeps() == ("first", "second")
    assert not missing.parent.exists()
    assert len(_runs(home, "first")) == 6


def test_a_damaged_sweep_can_be_removed(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", trials=4).folder
    (folder / "journal.jsonl").write_text("{}\n")
    (tmp_path / "mlflow.db").touch()
    assert remove_sweep(folder) == "s is removed; MLflow keeps its runs, since its journal cannot be read"
    assert not folder.exists()


def test_nothing_is_removed_without_a_yes(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", trials=4).folder
    asked = ["remove", "s", "--home", str(tmp_path)]
    for arguments, given, code in ((asked, "n\n", 2), (asked, "", 2), ([*asked, "--yes"], "", 0)):
        done = CliRunner().invoke(main, arguments, input=given)
        assert done.exit_code == code, done.output
        assert folder.exists() == (code == 2)
