"""A sweep that two processes want to resume at the same time."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.journal import Journal
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.sweeps.context import PreparedSweep
from paretta.orchestrator.sweeps.launcher import resume
from paretta.orchestrator.sweeps.signals import stop_signals
from paretta.orchestrator.sweeps.sweep_run import run_sweep
from paretta.search_spaces.errors import WrongInput


def test_sweep_that_another_process_runs_is_refused_at_once(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", trials=4, finished=False, artifacts=False)
    with Journal(tmp_path / "s"), pytest.raises(WrongInput, match="another process is running this sweep"):
        resume("s", home=tmp_path)


def test_what_the_other_process_wrote_until_then_counts(tmp_path: Path) -> None:
    """This one looked while the other still ran; now that it may write, the other is done and nothing is left to do."""
    folder = write_sweep(tmp_path / "s", trials=4, artifacts=False).folder
    before = (folder / "journal.jsonl").read_bytes()
    search = SimpleNamespace(config=SimpleNamespace(search=SimpleNamespace(trials=4)))
    prepared = cast(PreparedSweep, SimpleNamespace(folder=folder, files=SweepFiles(folder), sweep=search))
    with stop_signals() as stopping:
        front = run_sweep(prepared, stopping, "sqlite:///nowhere.db")
    assert len(front.members) > 0
    assert (folder / "journal.jsonl").read_bytes() == before
