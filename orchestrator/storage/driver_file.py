"""The file that records a sweep's driver process, so that other processes can stop it."""

import os
import signal
import socket
from pathlib import Path

from paretta.dashboards.journal.journal import is_written
from paretta.search_spaces.errors import Problem, WrongInput

DRIVER_FILE = "driver"


def write_driver(folder: Path) -> None:
    """Record the driver's host and process ID in the sweep's folder."""
    (folder / DRIVER_FILE).write_text(f"{socket.gethostname()} {os.getpid()}\n", encoding="utf-8")


def stop_driver(folder: Path, *, now: bool = False) -> None:
    """Ask the process that runs the sweep in `folder` to wind down, or with `now` to stop at once.

    Raises:
        WrongInput: no process runs it, or a process on another machine does.
    """
    if not is_written(folder):
        raise WrongInput(Problem(str(folder), "no process is running this sweep"))
    host, process = (folder / DRIVER_FILE).read_text(encoding="utf-8").split()
    if host != socket.gethostname():
        hint = "call this there; a sweep that was submitted is stopped with --address"
        raise WrongInput(Problem(str(folder), f"the sweep is run by process {process} of {host}", hint=hint))
    for _ in range(2 if now else 1):
        os.kill(int(process), signal.SIGTERM)
