"""Stopping on request: the first signal lets what runs come to its end, the second stops at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from paretta.search_spaces.errors import ParettaError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SweepStopped(ParettaError):
    """The sweep was stopped on request; the message says how to go on with it."""


@dataclass(slots=True)
class StopRequest:
    """Whether somebody asked to stop.

    Args:
        asked: by which signal; empty while nobody did.
    """

    asked: str = ""
    heeded: bool = False

    def heed(self, act: Callable[[], None]) -> bool:
        """Return whether a stop was asked for; when it was, `act` is called once.

        A signal's handler may run in the middle of anything, so acting waits for this call.
        """
        if self.asked and not self.heeded:
            self.heeded = True
            act()
        return bool(self.asked)


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Listen to SIGINT and SIGTERM inside the block; the second one raises KeyboardInterrupt.

    Signals reach only a process' main thread; in any other one nothing is listened to.
    """
    stopping = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def listen(number: int, _: FrameType | None) -> None:
        if stopping.asked:
            raise KeyboardInterrupt
        stopping.asked = signal.Signals(number).name

    before = {number: signal.signal(number, listen) for number in SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
