"""A sweep in files for other tools, read back by those tools."""

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import jsonschema
import optuna
import pandas as pd
import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.report.table import FRONT_SCHEMA
from paretta.orchestrator.delivery.export import export_sweep
from paretta.search_spaces.errors import WrongInput


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> SweepRecord:
    return write_sweep(tmp_path_factory.mktemp("home") / "s", trials=60, seed=3, artifacts=False)


@pytest.fixture
def study(record: SweepRecord, tmp_path: Path) -> optuna.Study:
    export_sweep(record.folder, {"optuna": tmp_path / "study.db"})
    return optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}")


def test_optuna_finds_the_same_front(record: SweepRecord, study: optuna.Study) -> None:
    assert study.metric_names == ["size [B]", "latency [ratio]", "accuracy [share]"]
    best = {trial.user_attrs["uid"] for trial in study.best_trials}
    assert best == {trial.uid for trial in record.front()}
    assert study.user_attrs["baseline"]["size"] == record.trials["baseline"].value("size")


def test_optuna_has_every_trial_with_its_knobs_and_state(record: SweepRecord, study: optuna.Study) -> None:
    by_uid = {trial.user_attrs["uid"]: trial for trial in study.trials}
    assert by_uid.keys() == record.trials.keys()
    for uid, exported in by_uid.items():
        trial = record.trials[uid]
        assert exported.number == trial.number
        assert exported.params == trial.knobs
        assert exported.user_attrs.get("reason") == trial.reason
        if trial.status == "complete":
            assert exported.values == [trial.value(o.meter) for o in record.objectives]
        else:
            assert exported.state.name in ("FAIL", "PRUNED")
            assert exported.values is None


def test_a_number_without_a_trial_is_filled_so_that_later_ones_keep_theirs(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=4, artifacts=False)
    lines = (tmp_path / "s" / "journal.jsonl").read_text().splitlines(keepends=True)
    (lost,) = [uid for uid, trial in record.trials.items() if trial.number == 2]
    (tmp_path / "s" / "journal.jsonl").write_text("".join(line for line in lines if lost not in line))
    export_sweep(record.folder, {"optuna": tmp_path / "study.db"})
    trials = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}").trials
    assert [trial.user_attrs.get("uid", "")[:4] for trial in trials] == ["base", "0001", "", "0003", "0004"]
    assert trials[2].state.name == "FAIL"


def test_optuna_dashboard_shows_every_trial_when_it_ran(record: SweepRecord, study: optuna.Study) -> None:
    dashboard = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard of the dev extra is not installed")
    app = dashboard.wsgi(study._storage)

    def ask(path: str) -> dict[str, Any]:
        given: dict[str, Any] = {"PATH_INFO": path}
        setup_testing_defaults(given)
        return json.loads(b"".join(app(given, lambda status, *_: status.startswith("200") or pytest.fail(status))))

    (summary,) = ask("/api/studies")["study_summaries"]
    shown = ask(f"/api/studies/{summary['study_id']}")
    assert (shown["name"], shown["objective_names"]) == ("s", ["size [B]", "latency [ratio]", "accuracy [share]"])
    for told in shown["trials"]:
        trial = record.trials[next(a["value"] for a in told["user_attrs"] if a["key"] == "uid")]
        began = datetime.fromisoformat(told["datetime_start"]).timestamp()
        assert began == pytest.approx(trial.started, abs=1)
        assert {p["name"]: p["param_external_value"] for p in told["params"]} == {
            name: str(answer) for name, answer in trial.knobs.items()
        }
    assert len(shown["trials"]) == 61  # with the baseline


def test_tables_hold_every_trial(record: SweepRecord, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"t.{kind}" for kind in ("json", "csv", "parquet")}
    assert export_sweep(record.folder, files) == list(files.values())
    jsonschema.validate(json.loads(files["json"].read_text()), json.loads(FRONT_SCHEMA.read_text()))
    csv, parquet = pd.read_csv(files["csv"]), pd.read_parquet(files["parquet"])
    assert list(csv["uid"]) == list(parquet["uid"]) == list(record.trials)
    assert parquet["accuracy"].dropna().tolist() == pytest.approx(csv["accuracy"].dropna().tolist())


def test_picture_is_what_its_ending_says(record: SweepRecord, tmp_path: Path) -> None:
    export_sweep(record.folder, {"picture": tmp_path / "front.png"})
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(
        WrongInput, match=r"extension must name the picture format; got 'front\.jpg'; name a \.png or an \.svg"
    ):
        export_sweep(record.folder, {"picture": tmp_path / "front.jpg"})


def test_nothing_is_overwritten(record: SweepRecord, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("mine")
    wanted = {"csv": tmp_path / "t.csv", "optuna": tmp_path / "no" / "s.db"}
    with pytest.raises(WrongInput, match=r"--csv: the file already exists(.|\n)*--optuna: there is no such folder"):
        export_sweep(record.folder, wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    with pytest.raises(WrongInput, match="name at least one file"):
        export_sweep(record.folder, {})


def test_files_are_replaced_by_force_whole_and_folders_never(record: SweepRecord, tmp_path: Path) -> None:
    files = {"csv": tmp_path / "t.csv", "optuna": tmp_path / "s.db", "picture": tmp_path / "p.svg"}
    for path in files.values():
        path.write_text("mine")
    export_sweep(record.folder, files, force=True)
    assert list(pd.read_csv(files["csv"])["uid"]) == list(record.trials)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{files['optuna']}")
    assert len(study.trials) == 61
    assert files["picture"].read_text().startswith("<?xml")
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "s.db", "p.svg"}
    (tmp_path / "folder").mkdir()
    with pytest.raises(WrongInput, match="--csv: this is a folder"):
        export_sweep(record.folder, {"csv": tmp_path / "folder"}, force=True)


def test_every_file_is_written_into_a_folder_of_any_name(record: SweepRecord, tmp_path: Path) -> None:
    folder = tmp_path / "C# 50% é?x=1 [a]"
    folder.mkdir()
    written = {"optuna": "s.db", "csv": "t.csv", "parquet": "t.parquet", "json": "f.json", "picture": "f.png"}
    export_sweep(record.folder, {kind: folder / name for kind, name in written.items()})
    assert {path.name for path in folder.iterdir()} == set(written.values())
    shutil.copy(folder / "s.db", tmp_path / "study.db")
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert len(study.trials) == 61
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "study.db"}
