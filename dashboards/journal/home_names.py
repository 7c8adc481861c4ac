"""The names by which a home of sweeps is found: its environment variable, and the files that make a folder a sweep."""

from pathlib import Path
from typing import Final

HOME_VARIABLE: Final = "PARETTA_HOME"
JOURNAL_FILE: Final = "journal.jsonl"
ARCHIVED_FILE: Final = "archived"  # an empty file in the folder of a sweep that is left out of lists


def is_archived(folder: Path) -> bool:
    """Return whether the sweep in `folder` is left out of lists."""
    return (folder / ARCHIVED_FILE).is_file()


def sweep_folders(home: Path, *, archived: bool = True) -> list[Path]:
    """Return the folders of the sweeps in `home`, sorted by name; without the archived ones if `archived` is False."""
    found = sorted(journal.parent for journal in home.glob(f"*/{JOURNAL_FILE}"))
    return [folder for folder in found if archived or not is_archived(folder)]
