"""Whether a sweep's driver still lives, and the command that goes on with one that does not."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

from paretta.dashboards.journal.journal import is_written
from paretta.dashboards.journal.record import SweepRecord

HOME_VARIABLE: Final = "PARETTA_HOME"


def has_died(record: SweepRecord) -> bool:
    """Tell whether the process that ran the sweep was killed before it could write an ending.

    Only a journal on the disk of its driver can tell; of one that was copied from a storage this must not be asked.
    """
    try:
        return record.status == "running" and record.started > 0 and not is_written(record.folder)
    except OSError:
        return False


def state_words(record: SweepRecord) -> tuple[str, str | None]:
    """Return the sweep's status and its reason; of a dead driver's sweep ``died`` and how to resume it."""
    if has_died(record):
        return "died", f"resume with: {resume_command(record.folder, record)}"
    return record.status, record.reason


def resume_command(folder: Path, record: SweepRecord) -> str:
    """Return the command that goes on with the sweep in `folder`."""
    joined = "" if record.facts.get("own_cluster", True) else " --address ADDRESS"
    return f"{program()} launch --resume {shlex.quote(folder.name)}{home_argument(folder)}{joined}"


def home_argument(folder: Path) -> str:
    """Return the option that finds the sweep in `folder` from here; empty where none is needed."""
    home = Path(os.environ.get(HOME_VARIABLE) or "sweeps").resolve()
    return "" if folder.parent == home else f" --home {shlex.quote(str(folder.absolute().parent))}"


def program() -> str:
    """Return how this program is called here: by its path where its environment is not active."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "paretta" and shutil.which("paretta") is None else "paretta"
