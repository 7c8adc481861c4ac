import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_sweep import write_files, write_sweep

from paretta.dashboards.journal.journal import Journal
from paretta.orchestrator.delivery.pull import fetch, pull
from paretta.orchestrator.storage.home import Home
from paretta.orchestrator.sweeps.result import SweepFront
from paretta.search_spaces.canonical import canonical_json
from paretta.search_spaces.errors import DamagedArtifact, DamagedRecord, WrongInput
from paretta.search_spaces.objectives.wish import Wish


def test_member_whose_files_are_gone_is_told(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", trials=6).folder
    shutil.rmtree(folder / "artifacts")
    with pytest.raises(WrongInput, match=r"trial .*: its files are gone from the sweep's folder; .*; choose another"):
        pull(Home(tmp_path), "s", Wish(), tmp_path / "to")
    with pytest.raises(WrongInput, match="its files are gone"):
        SweepFront.read(folder).pull(tmp_path / "to")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("path", ["../../etc", "/etc", "artifacts/../../../etc"])
def test_path_that_leaves_the_sweep_is_a_damaged_record(tmp_path: Path, path: str) -> None:
    journal = write_sweep(tmp_path / "s", trials=6).folder / "journal.jsonl"
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    for event in events:
        if event["event"] == "trial" and event["trial"]["artifact"]:
            event["trial"]["artifact"] = path
    journal.write_text("".join(json.dumps(event) + "\n" for event in events))
    with pytest.raises(DamagedRecord, match=r"trial\.artifact: must be a path inside the sweep's folder"):
        pull(Home(tmp_path), "s", Wish(), tmp_path / "to")


def test_links_and_pipes_are_not_copied(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", trials=6).folder
    (artifact, *_) = (folder / "artifacts").iterdir()
    (artifact / "model.onnx").unlink()
    for make in (lambda path: path.symlink_to("/etc/passwd"), os.mkfifo):
        make(artifact / "model.onnx")
        with pytest.raises(DamagedArtifact, match=r"model\.onnx: expected a regular file"):
            fetch(artifact, tmp_path / "to")
        (artifact / "model.onnx").unlink()
    aside = folder / "aside"
    (folder / "artifacts").rename(aside)
    (folder / "artifacts").mkdir()
    for member in aside.iterdir():
        (folder / "artifacts" / member.name).symlink_to(member)
    with pytest.raises(WrongInput, match="its files are gone"):
        pull(Home(tmp_path), "s", Wish(), tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_any_measured_trial_is_pulled_by_its_uid_or_number(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=12)
    members = {trial.uid for trial in record.front()}
    aside = next(t for t in record.trials.values() if t.role == "trial" and t.is_measured and t.uid not in members)
    for trial in (aside, record.trials["baseline"]):
        plan = canonical_json(trial.plan.to_document()).encode()
        write_files(record.folder / str(trial.artifact), trial.uid, plan)
    for name, uid in ((aside.uid, aside.uid), (f"{aside.number:04d}", aside.uid), ("baseline", "baseline")):
        to = tmp_path / f"to-{name}"
        assert pull(Home(tmp_path), f"s@{name}", Wish(), to).trial.uid == uid
        assert uid in (to / "model.onnx").read_bytes().decode("latin-1")


def test_preferences_and_roles_are_one_vocabulary(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=12, wishes={"phone": {"prefer": "fastest"}})
    best = {o.meter: record.front().pick(prefer=o.meter).uid for o in record.objectives}
    same = {
        best["size"]: ("size", "smallest"),
        best["latency"]: ("latency", "fastest", "phone"),
        best["accuracy"]: ("accuracy", "most-accurate"),
    }
    for uid, names in same.items():
        for name in names:
            for number, (sweep, wish) in enumerate(((f"s@{name}", Wish()), ("s", Wish(name)))):
                assert pull(Home(tmp_path), sweep, wish, tmp_path / f"{name}-{number}").trial.uid == uid


@pytest.mark.parametrize("name", ["smalest", "0099", "0001"])
def test_a_name_that_nobody_has_or_that_was_not_measured_is_refused(tmp_path: Path, name: str) -> None:
    record = write_sweep(tmp_path / "s", trials=3, artifacts=False)
    with Journal(record.folder) as journal:
        first = next(trial for trial in record.trials.values() if trial.number == 1)
        journal.trial(replace(first, status="stopped early", reason="stopped after train epoch 1 of 4"))
    message = {
        "smalest": "did you mean 'smallest'",
        "0099": "or give the uid of a complete trial",
        "0001": "this trial is stopped early, so it has no files: stopped after train epoch 1 of 4",
    }[name]
    with pytest.raises(WrongInput, match=message):
        pull(Home(tmp_path), f"s@{name}", Wish(), tmp_path / "to")
    assert not (tmp_path / "to").exists()
