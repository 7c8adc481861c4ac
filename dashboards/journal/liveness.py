"""Whether a sweep's driver is still alive, and the command that resumes the sweep if it is not."""

import fcntl
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from paretta.dashboards.journal.home_names import HOME_VARIABLE, JOURNAL_FILE

if TYPE_CHECKING:
    from paretta.dashboards.journal.record import SweepRecord


def is_written(folder: Path) -> bool:
    """Return whether a process is running the sweep in `folder`; a killed one has released the journal's lock."""
    with (folder / JOURNAL_FILE).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def has_died(record: "SweepRecord") -> bool:
    """Return whether the sweep's driver was killed before it could record the end.

    Valid only for a journal on the driver's own disk, where its lock can be checked, not for a copy from a storage.
    """
    try:
        return record.status == "running" and record.started > 0 and not is_written(record.folder)
    except OSError:
        return False


def state_words(record: "SweepRecord") -> tuple[str, str | None]:
    """Return the sweep's status and its reason; if the driver was killed, ``died`` and how to resume the sweep."""
    if has_died(record):
        return "died", f"resume with: {resume_command(record.folder, record)}"
    return record.status, record.reason


def resume_command(folder: Path, record: "SweepRecord") -> str:
    """Return the command that resumes the sweep in `folder`."""
    joined = "" if record.facts.get("own_cluster", True) else " --address ADDRESS"
    return f"{program()} launch --resume {shlex.quote(folder.name)}{home_argument(folder)}{joined}"


def home_argument(folder: Path) -> str:
    """Return the command-line option that locates the sweep in `folder`; empty if none is needed."""
    home = Path(os.environ.get(HOME_VARIABLE) or "sweeps").resolve()
    return "" if folder.parent == home else f" --home {shlex.quote(str(folder.absolute().parent))}"


def program() -> str:
    """Return how to call this program here: by its path if it is not on PATH."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "paretta" and shutil.which("paretta") is None else "paretta"
