"""Stopping on request: the first signal lets what runs come to its end, the second stops at once."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dashboards.journal import is_written
from search_spaces.errors import ParettaError, Problem, WrongInput

SIGNALS = (signal.SIGINT, signal.SIGTERM)
DRIVER_FILE = "driver"


class SweepStopped(ParettaError):
    """The sweep was stopped on request; the message says how to go on with it."""


@dataclass(slots=True)
class Stopping:
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
def stop_signals() -> Iterator[Stopping]:
    """Listen to SIGINT and SIGTERM inside the block; the second one raises KeyboardInterrupt.

    Signals reach only a process' main thread; in any other one nothing is listened to.
    """
    stopping = Stopping()
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


def write_driver(folder: Path) -> None:
    """Leave in the sweep's folder who runs it: machine and process."""
    (folder / DRIVER_FILE).write_text(f"{socket.gethostname()} {os.getpid()}\n", encoding="utf-8")


def stop(folder: Path, *, now: bool = False) -> None:
    """Ask the process that runs the sweep in `folder` to let what runs come to its end; `now`: to stop at once.

    Raises:
        WrongInput: no process runs it, or one on another machine does.
    """
    if not is_written(folder):
        raise WrongInput(Problem(str(folder), "no process is running this sweep"))
    host, process = (folder / DRIVER_FILE).read_text(encoding="utf-8").split()
    if host != socket.gethostname():
        mend = "call this there; a sweep that was submitted is stopped with --address"
        raise WrongInput(Problem(str(folder), f"the sweep is run by process {process} of {host}", mend=mend))
    for _ in range(2 if now else 1):
        os.kill(int(process), signal.SIGTERM)
