import json
import os
import shutil
from pathlib import Path

import pytest
from synthetic_sweep import write_sweep

from paretta.orchestrator.delivery.pull import fetch, pull
from paretta.orchestrator.storage.home import Home
from paretta.orchestrator.sweeps.result import SweepFront
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
