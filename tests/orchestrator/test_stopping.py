"""The first signal asks, the second raises, and the handlers that were there before come back."""

import os
import signal
import threading

import pytest

from orchestrator.stopping import SIGNALS, Stopping, stop_signals


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
