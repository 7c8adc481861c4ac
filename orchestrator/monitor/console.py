"""The console on which tables are printed."""

import os
from typing import Final

from rich.console import Console

UNBOUNDED: Final = 10_000  # columns: in a pipe or a file, each trial is one line


def printer() -> Console:
    """Return a console for standard output, as wide as the terminal or `$COLUMNS`, otherwise as the table."""
    bounded = Console().is_terminal or os.environ.get("COLUMNS", "").isdigit()
    return Console(width=None if bounded else UNBOUNDED, highlight=False)
