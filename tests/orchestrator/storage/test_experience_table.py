"""A home's results in one table: rebuilt when damaged, read anew when a journal grew, and carried to another home."""

from pathlib import Path

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.journal import Journal
from paretta.orchestrator.storage import experience_table
from paretta.orchestrator.storage.experience_table import (
    EXPERIENCE_FILE,
    home_results,
    read_experience,
    results_of,
    write_experience,
)
from paretta.search_spaces.errors import WrongInput


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        write_sweep(tmp_path / name, trials=8, seed=len(name), artifacts=False)
    return tmp_path


def test_results_are_gains_over_the_sweeps_own_baseline(home: Path) -> None:
    found = results_of(home / "one")
    assert 5 <= len(found) <= 8
    assert {*found[0].gains} == {"size", "latency", "accuracy"}
    assert all(result.gains["size"] < 0 for result in found)
    assert "prune.sparsity" in found[0].knobs


def test_an_unchanged_home_is_read_from_its_table_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, said = home_results(home)
    assert {result.sweep for result in results} == {"one", "two"}
    assert not said
    monkeypatch.setattr(experience_table, "results_of", lambda _: pytest.fail("a journal was read"))
    assert home_results(home) == (results, [])


def test_a_journal_that_grew_is_read_again_and_a_sweep_that_is_gone_is_forgotten(home: Path) -> None:
    before, _ = home_results(home)
    write_sweep(home / "three", trials=8, seed=9, artifacts=False)
    with Journal(home / "one") as journal:
        journal.end("done")
    after, _ = home_results(home)
    assert len(after) > len(before)
    assert [result for result in after if result.sweep == "one"] == [r for r in before if r.sweep == "one"]
    (home / "three" / "journal.jsonl").unlink()
    assert home_results(home)[0] == before
    assert read_experience(home / EXPERIENCE_FILE) == before


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense", None])
def test_a_damaged_table_is_rebuilt_and_said(home: Path, content: bytes | None) -> None:
    results, _ = home_results(home)
    path = home / EXPERIENCE_FILE
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    again, said = home_results(home)
    assert again == results
    assert said == [f"{path} was damaged; it is rebuilt from the journals"]
    assert home_results(home) == (results, [])


def test_a_damaged_journal_is_left_out_and_said(home: Path) -> None:
    (home / "two" / "journal.jsonl").write_text("{}\n")
    results, said = home_results(home)
    assert {result.sweep for result in results} == {"one"}
    assert said[0].startswith("nothing is learned from two: ")


def test_a_table_moves_between_homes(home: Path, tmp_path: Path) -> None:
    results, _ = home_results(home)
    write_experience(tmp_path / "moved.parquet", results)
    assert read_experience(tmp_path / "moved.parquet") == results
    with pytest.raises(WrongInput, match="is no table of results"):
        read_experience(home / "one" / "journal.jsonl")
