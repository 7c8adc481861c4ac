"""Stop on request: the first signal winds the sweep down, the second one stops it at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from paretta.search_spaces.errors import ParettaError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SweepStopped(ParettaError):
    """The sweep was stopped on request; the message says how to resume it."""


@dataclass(slots=True)
class StopRequest:
    """Records whether a stop was requested.

    Args:
        asked: the name of the signal; an empty string before a request.
    """

    asked: str = ""
    handled: bool = False

    def handle(self, act: Callable[[], None]) -> bool:
        """Return whether a stop was requested; if so, call `act` once.

        A signal handler may run at any point of the program, so the action is deferred to this call.
        """
        if self.asked and not self.handled:
            self.handled = True
            act()
        return bool(self.asked)


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Handle SIGINT and SIGTERM inside the block; the second one raises KeyboardInterrupt.

    Python handles signals only in the main thread; in any other thread this does nothing.
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
