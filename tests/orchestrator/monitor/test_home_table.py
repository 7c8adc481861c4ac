"""The list of sweeps: state, trials, best point, size on disk, last event."""

import json
import os
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console
from synthetic_sweep import START, write_sweep

from paretta.dashboards.journal.journal import Journal, annotate
from paretta.orchestrator.cli import main
from paretta.orchestrator.monitor.home_table import KEPT_FILE, keep_summary, sweep_documents, sweeps_table
from paretta.orchestrator.storage.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_sweep(tmp_path / "done", trials=6, artifacts=False)
    write_sweep(tmp_path / "killed one", trials=4, finished=False, artifacts=False, started=START + 9000)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "journal.jsonl").write_bytes(b"5\n")
    (tmp_path / "no sweep").mkdir()
    return tmp_path


@pytest.mark.timeout(20)
def test_a_pipe_in_a_journals_place_is_damaged_and_not_waited_for(home: Path) -> None:
    (home / "pipe").mkdir()
    os.mkfifo(home / "pipe" / "journal.jsonl")
    *_, pipe = sorted(sweep_documents([home / name for name in Home(home).sweeps()]), key=lambda one: str(one["sweep"]))
    assert pipe["status"] == "damaged"
    assert str(pipe["reason"]).endswith("pipe/journal.jsonl: this sweep's record is damaged: it is not a regular file")


def test_each_sweep_is_described_the_latest_first(home: Path) -> None:
    killed, done, broken = sweep_documents([home / name for name in ("broken", "done", "killed one")])
    assert (killed["sweep"], killed["status"], killed["ended"], killed["asked"]) == ("killed one", "died", 2, 4)
    assert str(killed["reason"]).startswith("resume with: paretta launch --resume 'killed one'")
    assert (done["sweep"], done["status"], done["ended"], done["asked"]) == ("done", "done", 6, 6)
    assert done["disk_bytes"] == sum(
        path.stat().st_size for path in (home / "done").rglob("*") if path.is_file() and path.name != KEPT_FILE
    )
    best = done["best"]
    assert isinstance(best, dict)
    assert set(best["readings"]) == {"size", "latency", "accuracy"}
    assert (broken["status"], broken["best"]) == ("damaged", None)
    assert "this sweep's record is damaged" in str(broken["reason"])


def test_the_table_fits_eighty_columns(home: Path) -> None:
    documents = sweep_documents([home / "done", home / "killed one"])
    stream = StringIO()
    Console(file=stream, width=80).print(sweeps_table(documents, now=float(str(documents[0]["updated"])) + 7300))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if line.startswith("killed one")]
    assert row.rstrip().endswith("2 h ago")
    assert " died " in row
    assert " 2/4 " in row


def test_list_without_a_noun_lists_the_sweeps(home: Path) -> None:
    shown = CliRunner().invoke(main, ["list", "--home", str(home)], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    first_cells = [line.split("  ")[0].strip() for line in shown.output.splitlines()[2:]]
    assert [cell for cell in first_cells if cell] == ["killed one", "done", "broken"]  # "best (knee)" may wrap
    as_json = CliRunner().invoke(main, ["list", "sweeps", "--json", "--home", str(home)])
    assert [document["sweep"] for document in json.loads(as_json.output)] == ["killed one", "done", "broken"]
    empty = CliRunner().invoke(main, ["list", "--home", str(home / "no sweep")])
    assert empty.output == f"no sweep is in {home / 'no sweep'}\n"


def test_what_is_told_of_an_ended_sweep_is_kept_until_its_journal_changes(home: Path) -> None:
    fresh = sweep_documents([home / "done"])
    kept = home / "done" / KEPT_FILE
    told = kept.read_text()
    assert sweep_documents([home / "done"]) == fresh
    for damage in ("", "{}", "[]", '{"of": 1}', told.replace("done", "gone").replace('"of": [1', '"of": [0')):
        kept.write_text(damage)
        (again,) = sweep_documents([home / "done"])
        assert (again["status"], again["best"]) == ("done", fresh[0]["best"])
    annotate(home / "done", None, "new", {})
    (noted,) = sweep_documents([home / "done"])
    assert (noted["note"], noted["best"]) == ("new", fresh[0]["best"])


def test_what_is_told_of_a_dead_sweep_is_kept_while_no_driver_runs_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "killed one"
    (died,) = sweep_documents([folder])
    assert sweep_documents([folder]) == [died]
    assert (folder / KEPT_FILE).exists()
    with Journal(folder):
        assert sweep_documents([folder])[0]["status"] == "running"
    monkeypatch.setenv("PARETTA_HOME", str(home))
    (again,) = sweep_documents([folder])
    assert (died["status"], again["status"]) == ("died", "died")
    assert "--home" in str(died["reason"])
    assert "--home" not in str(again["reason"])


def test_a_list_that_is_kept_loads_neither_numpy_nor_pydantic(home: Path) -> None:
    shutil.rmtree(home / "broken")
    keep_summary(home / "done")  # as a sweep does at its end
    subprocess.run([sys.executable, "-m", "paretta", "list", "--home", str(home)], check=True)  # the dead one
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom paretta.orchestrator.cli import main\n"
        f"done = CliRunner().invoke(main, ['list', '--home', {str(home)!r}])\n"
        "print('done' in done.output, [name for name in ('numpy', 'pydantic', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"
