"""The sweeps of a home at a glance: state, trials, best point, size on disk, last event.

Nothing heavy is imported here: what is told of a sweep that has ended is kept in a file beside its journal.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from paretta.dashboards.journal.annotation import Annotation
from paretta.dashboards.journal.home_names import JOURNAL_FILE, is_archived
from paretta.dashboards.journal.liveness import home_argument, is_written, program
from paretta.search_spaces.bounded_files import read_bounded
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.quantities import format_quantity

SWEEPS_SCHEMA: Final = 1
KEPT_FILE: Final = ".summary.json"
_KEPT_FORMAT: Final = 1  # raise it when `describe` changes
_LONGEST_NOTE: Final = 72
_ENDED: Final = ("done", "stopped", "failed")
_TOLD: Final = {"status", "reason", "ended", "asked", "best", "updated", "note", "tags"}
_AGES: Final = (("day", 86400), ("h", 3600), ("min", 60), ("s", 1))


def sweep_documents(folders: Sequence[Path]) -> list[Document]:
    """Describe each sweep, the one with the latest event first; one that cannot be read is ``damaged``.

    Schema 1: ``schema``, ``sweep``, ``archived``, ``status`` (as of `paretta status`, or damaged), ``reason``,
    ``ended`` and ``asked`` (trials), ``best`` (the knee: ``uid`` and ``readings`` as text by meter; None before there
    is one), ``disk_bytes``, ``updated`` (Unix time of the last event), ``note``, ``tags``.
    """
    documents = [_document(folder) for folder in folders]
    return sorted(documents, key=lambda document: -float(str(document["updated"])))


def _document(folder: Path) -> Document:
    about: Document = {
        "schema": SWEEPS_SCHEMA,
        "sweep": folder.name,
        "archived": is_archived(folder),
        "disk_bytes": _disk_bytes(folder),
    }
    return {**about, **_described(folder)}


def keep_summary(folder: Path) -> None:
    """Keep what is told of a sweep that has ended, so that not even the first list has to read its journal."""
    _described(folder)


def _described(folder: Path) -> Document:
    ended = _state(folder)
    if (kept := _kept(folder, ended)) is not None:
        return kept
    dead = [*ended, *_command_to_resume(folder)]
    if dead != ended and (kept := _kept(folder, dead)) is not None:
        return kept
    from paretta.orchestrator.monitor.home_summary import describe  # noqa: PLC0415 - loads NumPy and pydantic

    described = describe(folder)
    if described["status"] in _ENDED:
        _keep(folder, {"of": ended, "described": described})
    elif described["status"] == "died" and dead != ended:  # the driver was dead before it was described, too
        _keep(folder, {"of": dead, "described": described})
    return described


def _state(folder: Path) -> list[int]:
    """Return what changes whenever the journal does."""
    try:
        found = (folder / JOURNAL_FILE).stat()
    except OSError:
        return []
    return [_KEPT_FORMAT, found.st_size, found.st_mtime_ns]


def _command_to_resume(folder: Path) -> tuple[str, str] | tuple[()]:
    """Return what the advice to a sweep whose driver has died depends on; nothing while a driver runs it."""
    with suppress(OSError):
        if (folder / JOURNAL_FILE).is_file() and not is_written(folder):
            return program(), home_argument(folder)
    return ()


def _kept(folder: Path, state: list[int]) -> Document | None:
    """Return what was told of the sweep when its journal was as it is now; None if that is not known."""
    try:
        kept = json.loads(read_bounded(folder / KEPT_FILE))
        described = kept["described"] if state and kept["of"] == state else None
        return described if isinstance(described, dict) and described.keys() == _TOLD else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(folder: Path, document: Document) -> None:
    part = folder / f"{KEPT_FILE}.{os.getpid()}"
    with suppress(OSError):  # a full or foreign disk costs only the time to read the journal again
        part.write_text(json.dumps(document), encoding="utf-8")
        part.replace(folder / KEPT_FILE)


def sweeps_table(documents: Sequence[Document], now: float | None = None) -> Table:
    """Return a table with one line per sweep; the best point gets the remaining width and wraps."""
    table = Table(pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), box=SIMPLE_HEAD)
    for heading in ("sweep", "state", "trials", "best (knee)", "disk", "last event"):
        table.add_column(heading, no_wrap=heading in ("state", "trials", "disk", "last event"), overflow="fold")
    present = time.time() if now is None else now
    for document in documents:
        trials = f"{document['ended']}/{document['asked'] or '?'}"
        disk, updated = float(str(document["disk_bytes"])), float(str(document["updated"]))
        state = f"archived, {document['status']}" if document["archived"] else document["status"]
        cells = (document["sweep"], state, trials, _best(document), format_quantity(disk, "B"))
        table.add_row(*(Text(str(cell)) for cell in (*cells, age(present - updated) if updated else "")))
    return table


def age(seconds: float) -> str:
    """Say how long ago something was, in its largest whole unit.

    >>> age(0.2), age(119), age(7300), age(86400 * 3)
    ('now', '1 min ago', '2 h ago', '3 days ago')
    """
    for unit, length in _AGES:
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''} ago"
    return "now"


def _best(document: Document) -> str:
    """Return the readings of the best point, and the beginning of what the user has noted of the sweep."""
    best, note, tags = document["best"], document["note"], document["tags"]
    assert isinstance(note, str)
    assert isinstance(tags, dict)
    about = shorten(str(Annotation(note, tags)), _LONGEST_NOTE, placeholder=" ...")
    shown = ", ".join(map(str, best["readings"].values())) if isinstance(best, dict) else ""
    why = str(document["reason"] or "") if document["status"] == "damaged" else ""
    return " · ".join(filter(None, (shown or why, about)))


def _disk_bytes(folder: Path) -> int:
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    """Yield the sizes of all files; a running sweep may remove any, and another user's folder may be closed."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == KEPT_FILE:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(Path(entry.path))
                continue
            with suppress(OSError):
                yield entry.stat(follow_symlinks=False).st_size
