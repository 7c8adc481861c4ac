import os
import tempfile
from pathlib import Path

import pytest

from paretta.orchestrator.cluster.measuring_slot import MeasuringSlot
from paretta.orchestrator.cluster.private_folder import private_folder, ray_folder, remove_stale
from paretta.search_spaces.errors import WrongInput

DEAD = 2**22 + 1  # beyond the largest number that Linux gives a process


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def test_folder_is_closed_to_others_and_the_same_each_time(temp: Path) -> None:
    folder = private_folder()
    assert (folder.parent, folder.stat().st_mode & 0o777) == (temp, 0o700)
    folder.chmod(0o777)
    assert private_folder() == folder
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("taken", ["file", "link", "other"])
def test_name_that_another_user_has_taken_is_left_alone(
    temp: Path, tmp_path: Path, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = temp / f"paretta-{os.getuid()}"
    if taken == "file":
        name.touch()
    elif taken == "link":
        (tmp_path / "theirs").mkdir()
        name.symlink_to(tmp_path / "theirs")
    else:
        name.mkdir()
        found, lstat = name.lstat(), Path.lstat
        theirs = os.stat_result([*found[:4], found.st_uid + 1, *found[5:]])
        monkeypatch.setattr(Path, "lstat", lambda path: theirs if path == name else lstat(path))
    assert private_folder() == tmp_path / "home" / ".cache" / "paretta"


def test_nowhere_to_go_is_told(temp: Path, tmp_path: Path) -> None:
    (temp / f"paretta-{os.getuid()}").touch()
    (tmp_path / "home").touch()
    with pytest.raises(WrongInput, match="belongs to another user; set TMPDIR to a folder of your own"):
        private_folder()


def test_lock_of_another_user_is_no_obstacle(temp: Path) -> None:
    (temp / "paretta-latency_slot.lock").touch(mode=0o000)
    with MeasuringSlot("node").taken(wait_s=0.1):
        assert (temp / f"paretta-{os.getuid()}" / "latency_slot.lock").is_file()


def test_what_killed_drivers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    stale, living, others = (
        f"pa{DEAD}-abcdefgh",
        f"pa{os.getpid()}-abcdefgh",
        ["pa-abcdefgh", f"pa{DEAD}-abc", "papers"],
    )
    for name in (stale, living, *others):
        (tmp_path / name / "r").mkdir(parents=True)
    (tmp_path / f"pa{DEAD}-linkabcd").symlink_to(tmp_path / "papers")
    remove_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {living, *others, f"pa{DEAD}-linkabcd"}
    assert (tmp_path / "papers" / "r").is_dir()


def test_folder_of_a_driver_that_runs_in_another_container_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    monkeypatch.setattr(os, "getpid", lambda: DEAD)
    with ray_folder() as folder:
        remove_stale(folder.parents[1])
        assert folder.is_dir()
        assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert not folder.parent.exists()
