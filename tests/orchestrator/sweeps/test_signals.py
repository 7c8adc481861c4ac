"""The first signal requests a stop, the second raises, and the previous handlers are restored."""

import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from paretta.dashboards.journal.journal import Journal
from paretta.orchestrator.monitor.status import status_document
from paretta.orchestrator.storage.driver_file import stop_driver, write_driver
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.sweeps.signals import SIGNALS, StopRequest, stop_signals
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.objectives.objective import Objective


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_second_raises(number: signal.Signals) -> None:
    before = [signal.getsignal(known) for known in SIGNALS]
    acts: list[str] = []
    with stop_signals() as stopping:
        assert not stopping.handle(lambda: acts.append("too early"))
        os.kill(os.getpid(), number)
        assert stopping.asked == number.name
        assert stopping.handle(lambda: acts.append("once"))
        assert stopping.handle(lambda: acts.append("twice"))
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert acts == ["once"]
    assert [signal.getsignal(known) for known in SIGNALS] == before


def test_other_threads_leave_signals_alone() -> None:
    found: list[StopRequest] = []

    def listen() -> None:
        with stop_signals() as stopping:
            found.append(stopping)

    before = [signal.getsignal(known) for known in SIGNALS]
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [StopRequest()]
    assert [signal.getsignal(known) for known in SIGNALS] == before


def test_only_the_process_that_runs_a_sweep_is_stopped(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, stop_signals() as stopping:
        goal = Objective("size", "min", "B")
        journal.sweep(name="mine", config={"search": {"trials": 3}}, objectives=(goal,), facts={})
        assert status_document(SweepFiles(tmp_path))["status"] == "running"
        write_driver(tmp_path)
        stop_driver(tmp_path)
        assert stopping.asked == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            stop_driver(tmp_path, now=True)
        (tmp_path / "driver").write_text("elsewhere 1\n")
        with pytest.raises(WrongInput, match="run by process 1 of elsewhere"):
            stop_driver(tmp_path)
        here = socket.gethostname()
        for found in ("", "x", f"{here} x", f"{here} -1", f"{here} 0", "\0 \0", "a b c"):
            (tmp_path / "driver").write_text(found)
            with pytest.raises(WrongInput, match="must name the host and the process that run the sweep"):
                stop_driver(tmp_path)
        (tmp_path / "driver").unlink()
        with pytest.raises(WrongInput, match="must name the host"):
            stop_driver(tmp_path)
        with subprocess.Popen(["sleep", "60"]) as stranger:
            (tmp_path / "driver").write_text(f"{here} {stranger.pid}\n")
            with pytest.raises(WrongInput, match=f"process {stranger.pid} does not run this sweep, so it is left"):
                stop_driver(tmp_path)
            assert stranger.poll() is None
            stranger.kill()
        with pytest.raises(WrongInput, match="does not run this sweep"):
            stop_driver(tmp_path)  # that process has ended
    assert status_document(SweepFiles(tmp_path))["status"] == "died"
    with pytest.raises(WrongInput, match="no process is running this sweep"):
        stop_driver(tmp_path)
