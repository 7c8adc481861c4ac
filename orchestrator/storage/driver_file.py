"""The file that records a sweep's driver process, so that other processes can stop it."""

import os
import signal
import socket
from pathlib import Path
from typing import Final

from paretta.dashboards.journal.home_names import JOURNAL_FILE
from paretta.dashboards.journal.liveness import is_written
from paretta.search_spaces.errors import Problem, WrongInput

DRIVER_FILE = "driver"
_BY_HAND: Final = "end the process that runs it by hand"


def write_driver(folder: Path) -> None:
    """Record the driver's host and process ID in the sweep's folder."""
    (folder / DRIVER_FILE).write_text(f"{socket.gethostname()} {os.getpid()}\n", encoding="utf-8")


def stop_driver(folder: Path, *, now: bool = False) -> None:
    """Ask the process that runs the sweep in `folder` to wind down, or with `now` to stop at once.

    Raises:
        WrongInput: no process runs it, a process on another machine does, or none that the sweep's folder names.
    """
    if not is_written(folder):
        raise WrongInput(Problem(str(folder), "no process is running this sweep"))
    host, process = _driver_of(folder)
    if host != socket.gethostname():
        hint = "call this there; a sweep that was submitted is stopped with --address"
        raise WrongInput(Problem(str(folder), f"the sweep is run by process {process} of {host}", hint=hint))
    if not _has_open(process, folder / JOURNAL_FILE):
        rule = f"process {process} does not run this sweep, so it is left alone"
        raise WrongInput(Problem(str(folder / DRIVER_FILE), rule, hint=_BY_HAND))
    for _ in range(2 if now else 1):
        os.kill(process, signal.SIGTERM)


def _driver_of(folder: Path) -> tuple[str, int]:
    """Return the host and process that the file names, which anyone may have written who can write to the folder."""
    path = folder / DRIVER_FILE
    try:
        host, process = path.read_text(encoding="utf-8").split()
        if int(process) > 0:
            return host, int(process)
    except (OSError, ValueError):
        pass
    raise WrongInput(Problem(str(path), "must name the host and the process that run the sweep", hint=_BY_HAND))


def _has_open(process: int, file: Path) -> bool:
    """Return whether a process has a file open, or True where the system does not tell."""
    if not Path("/proc/self/fd").is_dir():
        return True
    try:
        return any(link.exists() and link.samefile(file) for link in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False  # it has ended, or is another user's
