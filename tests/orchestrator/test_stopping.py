"""The first signal asks, the second raises, and the handlers that were there before come back."""

import os
import signal
import threading
from pathlib import Path

import pytest

from dashboards.journal import Journal
from orchestrator.files import SweepFiles
from orchestrator.status import status_document
from orchestrator.stopping import SIGNALS, Stopping, stop, stop_signals, write_driver
from search_spaces.errors import WrongInput
from search_spaces.objectives import Objective


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_second_raises(number: signal.Signals) -> None:
    before = [signal.getsignal(known) for known in SIGNALS]
    acts: list[str] = []
    with stop_signals() as stopping:
        assert not stopping.heed(lambda: acts.append("too early"))
        os.kill(os.getpid(), number)
        assert stopping.asked == number.name
        assert stopping.heed(lambda: acts.append("once"))
        assert stopping.heed(lambda: acts.append("twice"))
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert acts == ["once"]
    assert [signal.getsignal(known) for known in SIGNALS] == before


def test_other_threads_leave_signals_alone() -> None:
    found: list[Stopping] = []

    def listen() -> None:
        with stop_signals() as stopping:
            found.append(stopping)

    before = [signal.getsignal(known) for known in SIGNALS]
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [Stopping()]
    assert [signal.getsignal(known) for known in SIGNALS] == before


def test_only_the_process_that_runs_a_sweep_is_stopped(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, stop_signals() as stopping:
        goal = Objective("size", "min", "B")
        journal.sweep(name="mine", config={"search": {"trials": 3}}, objectives=(goal,), facts={})
        assert status_document(SweepFiles(tmp_path))["status"] == "running"
        write_driver(tmp_path)
        stop(tmp_path)
        assert stopping.asked == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            stop(tmp_path, now=True)
        (tmp_path / "driver").write_text("elsewhere 1\n")
        with pytest.raises(WrongInput, match="run by process 1 of elsewhere"):
            stop(tmp_path)
    assert status_document(SweepFiles(tmp_path))["status"] == "died"
    with pytest.raises(WrongInput, match="no process is running this sweep"):
        stop(tmp_path)
