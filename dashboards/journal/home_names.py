"""The names by which a home of sweeps is found: its environment variable, and the file that makes a folder a sweep."""

from typing import Final

HOME_VARIABLE: Final = "PARETTA_HOME"
JOURNAL_FILE: Final = "journal.jsonl"
