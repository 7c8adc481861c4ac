"""What `learn_from` asks for: a home, named sweeps, a file or nothing; what is missing or too little is told."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.config.check import Checked
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.search.experience import Experience
from paretta.orchestrator.storage.experience_table import EXPERIENCE_FILE, home_results, write_experience
from paretta.orchestrator.storage.home import Home
from paretta.orchestrator.sweeps.learning import experience_for, recorded_experience, require_experience
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.yaml_io import parse_yaml

SPACE = """
task: {use: digits}
space:
  - {kind: prune, sparsity: {float: [0, 0.8]}}
  - {kind: quantize, bits: {"conv*": {int: [2, 8]}}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        write_sweep(tmp_path / "home" / name, trials=12, seed=len(name), artifacts=False)
    return tmp_path / "home"


def learned(home: Path, learn_from: object, *, space: str = SPACE, sampler: str = "grey_box") -> Experience | None:
    text = f"{space}search: {{sampler: {sampler}, learn_from: {json.dumps(learn_from)}}}\n"
    sweep = Sweep.parse(parse_yaml(text, "sweep.yaml"), "sweep", home.parent)
    meters = [
        SimpleNamespace(label="size", judges_answers=False),
        SimpleNamespace(label="accuracy", judges_answers=True),
    ]
    checked = cast(Checked, SimpleNamespace(meters=meters))
    require_experience(sweep, checked, Home.at(home))
    return experience_for(sweep, checked, Home.at(home))


def test_a_home_teaches_all_of_its_sweeps_and_some_teach_theirs(home: Path) -> None:
    whole, one = learned(home, "home"), learned(home, ["one"])
    assert whole is not None
    assert one is not None
    assert whole.sweeps == ("one", "two")
    assert one.sweeps == ("one",)
    assert str(one) == f"learned from 1 sweep, {len(one.lessons.inputs)} results"
    assert (home / EXPERIENCE_FILE).is_file()


def test_a_file_teaches_the_same_as_its_home(home: Path) -> None:
    write_experience(home.parent / "moved.parquet", home_results(home)[0])
    moved, whole = learned(home, "moved.parquet"), learned(home, "home")
    assert moved is not None
    assert whole is not None
    assert moved.to_document() == whole.to_document()


def test_nothing_is_learned_where_it_is_not_asked_for_or_not_used(home: Path, tmp_path: Path) -> None:
    assert learned(home, "none") is None
    assert learned(home, "home", sampler="tpe") is None
    assert learned(tmp_path / "empty", "home") is None
    assert not (home / EXPERIENCE_FILE).exists()


@pytest.mark.parametrize(
    ("learn_from", "told"),
    [
        (["onee"], "search.learn_from: no sweep is called 'onee'; did you mean 'one'"),
        ("here.parquet", "search.learn_from: there is no such file; got 'here.parquet'"),
        ("sweep.txt", "is no table of results"),
    ],
)
def test_what_is_missing_is_told(home: Path, learn_from: object, told: str) -> None:
    (home.parent / "sweep.txt").write_text("nothing")
    with pytest.raises(WrongInput) as raised:
        learned(home, learn_from)
    assert told in str(raised.value).replace('"', "")


def test_named_sweeps_that_do_not_apply_are_refused(home: Path) -> None:
    other = "task: {use: digits}\nspace: [{kind: cluster, clusters: {int: [4, 64]}}]\n"
    with pytest.raises(WrongInput, match="at least 10 results with accuracy and half of this space's knobs"):
        learned(home, ["one"], space=other)
    assert learned(home, "home", space=other) is None


def test_a_damaged_table_is_said(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home / EXPERIENCE_FILE).write_bytes(b"nonsense")
    with caplog.at_level(logging.WARNING, logger="paretta"):
        assert learned(home, "home") is not None
    assert "it is rebuilt from the journals" in caplog.text


def test_the_journal_keeps_what_was_learned(home: Path, tmp_path: Path) -> None:
    found = learned(home, "home")
    assert found is not None
    folder = tmp_path / "new"
    folder.mkdir()
    with Journal(folder) as journal:
        journal.sweep(name="new", config={}, objectives=(), facts={}, lessons=found.to_document())
    again = recorded_experience(SweepRecord.read(folder))
    assert again is not None
    assert again.to_document() == found.to_document()
    assert recorded_experience(SweepRecord.read(home / "one")) is None
