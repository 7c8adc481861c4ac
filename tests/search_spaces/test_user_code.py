"""Code that a file names: loaded once until it is edited, and every failure is reported with its line."""

import sys
from pathlib import Path

import pytest

from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.user_code import load_object, loaded_module, look_in, reference_to, streams_kept


@pytest.fixture(autouse=True)
def _path_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)


def test_a_file_starts_at_the_chosen_folder_and_sees_its_neighbours(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"beside_{name}.py").write_text(f"NAME = {name!r}\n")
        (tmp_path / name / "mine.py").write_text(f"from beside_{name} import NAME\n")
    for name in ("one", "two", "one"):
        look_in(tmp_path / name)
        assert load_object("./mine.py:NAME", "here") == name


def test_a_module_beside_the_file_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "module_beside.py").write_text("class Thing:\n    pass\n")
    look_in(tmp_path)
    assert type(load_object("module_beside:Thing", "here")) is type


def test_a_file_is_run_once_and_anew_when_it_was_edited(tmp_path: Path) -> None:
    look_in(tmp_path)
    (tmp_path / "mine.py").write_text("class Thing:\n    value = 1\n")
    first = load_object("./mine.py:Thing", "here")
    assert load_object("./mine.py:Thing", "here") is first
    (tmp_path / "mine.py").write_text("class Thing:\n    value = 2\n")
    assert load_object("./mine.py:Thing", "here").value == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "reference", "told"),
    [
        ("", "./absent.py:Thing", "the file must exist"),
        ("", "no_such_module:Thing", "No module named 'no_such_module': it is not installed, and not in"),
        ("", "collections.no_such_part:Thing", "No module named 'collections.no_such_part'"),
        ("", "..:Thing", "must name a module, or a file that ends in .py; got '..'"),
        ("", "./mine:Thing", "must name a module, or a file that ends in .py; got './mine'"),
        ("import no_such_part\n", "./mine.py:Thing", "No module named 'no_such_part' (at {folder}/mine.py:1)"),
        ("class Thing:\n    pass\n", "./mine.py:Thin", "./mine.py has no 'Thin'; did you mean 'Thing'?"),
        ("\nclass Thing\n", "./mine.py:Thing", "SyntaxError: expected ':' (at {folder}/mine.py:2)"),
        ("\n\n1 / 0\n", "./mine.py:Thing", "ZeroDivisionError: division by zero (at {folder}/mine.py:3)"),
    ],
)
def test_what_cannot_be_loaded_is_told_with_its_line(tmp_path: Path, text: str, reference: str, told: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    look_in(tmp_path)
    for _ in range(2):  # a file that failed is not taken for loaded
        with pytest.raises(WrongInput) as caught:
            load_object(reference, "sweep.yaml:4 space[0].kind")
        assert str(caught.value).startswith("sweep.yaml:4 space[0].kind: ")
        assert told.format(folder=tmp_path) in str(caught.value)


def test_only_a_reference_that_was_loaded_has_a_module(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Thing:\n    pass\n")
    look_in(tmp_path)
    assert loaded_module("./mine.py:Thing") is None
    thing = load_object("./mine.py:Thing", "here")
    assert isinstance(thing, type)
    assert loaded_module("./mine.py:Thing") is sys.modules[thing.__module__]
    assert [loaded_module(text) for text in ("mine.py", "50kB", ":", "./absent.py:Thing")] == [None] * 4


def test_another_process_finds_a_class_by_its_reference(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Thing:\n    pass\n")
    look_in(tmp_path)
    thing = load_object("./mine.py:Thing", "here")
    assert isinstance(thing, type)
    assert reference_to(thing) == f"{tmp_path}/mine.py:Thing"
    look_in(tmp_path.parent)
    assert load_object(reference_to(thing), "here") is thing


def test_streams_that_user_code_closes_or_replaces_are_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = (tmp_path / "kept.txt").open("w")
    closed = (tmp_path / "closed.txt").open("w", encoding="ascii", errors="replace")
    monkeypatch.setattr(sys, "stdout", closed)
    monkeypatch.setattr(sys, "stderr", kept)
    with streams_kept():
        sys.stdout.close()
        sys.stderr = closed
    assert (sys.stdout.fileno(), sys.stdout.encoding, sys.stdout.errors) == (1, "ascii", "replace")
    assert not sys.stdout.closed
    assert sys.stderr is kept
    kept.close()
