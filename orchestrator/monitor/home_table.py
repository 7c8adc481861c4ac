"""The sweeps of a home at a glance: state, trials, best point, size on disk, last event."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from paretta.dashboards.journal.activity import asked, num_ended
from paretta.dashboards.journal.liveness import has_died, state_words
from paretta.dashboards.journal.record import SweepRecord
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import ParettaError, first_line
from paretta.search_spaces.quantities import format_quantity

SWEEPS_SCHEMA: Final = 1
_AGES: Final = (("day", 86400), ("h", 3600), ("min", 60), ("s", 1))


def sweep_documents(folders: Sequence[Path]) -> list[Document]:
    """Describe each sweep, the one with the latest event first; one that cannot be read is ``damaged``.

    Schema 1: ``schema``, ``sweep``, ``status`` (as of `paretta status`, or damaged), ``reason``, ``ended`` and
    ``asked`` (trials), ``best`` (the knee: ``uid`` and ``readings`` as text by meter; None before there is one),
    ``disk_bytes``, ``updated`` (Unix time of the last event).
    """
    documents = [_described(folder) for folder in folders]
    return sorted(documents, key=lambda document: -float(str(document["updated"])))


def _described(folder: Path) -> Document:
    about: Document = {"schema": SWEEPS_SCHEMA, "sweep": folder.name, "disk_bytes": _disk_bytes(folder)}
    try:
        record = SweepRecord.read(folder)
    except (ParettaError, OSError) as error:
        nothing = {"ended": 0, "asked": None, "best": None, "updated": 0.0}
        return {**about, "status": "damaged", "reason": first_line(error), **nothing}
    if has_died(record):
        record.interrupt()
    status, reason = state_words(record)
    front = record.front()
    readings = {o.meter: front.knee().readings[o.meter].with_time for o in front.objectives} if len(front) else {}
    return {
        **about,
        "status": status,
        "reason": reason,
        "ended": num_ended(record),
        "asked": asked(record),
        "best": {"uid": front.knee().uid, "readings": readings} if len(front) else None,
        "updated": record.updated,
    }


def sweeps_table(documents: Sequence[Document], now: float | None = None) -> Table:
    """Return a table with one line per sweep; the best point gets the remaining width and wraps."""
    table = Table(pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), box=SIMPLE_HEAD)
    for heading in ("sweep", "state", "trials", "best (knee)", "disk", "last event"):
        table.add_column(heading, no_wrap=heading in ("state", "trials", "disk", "last event"), overflow="fold")
    present = time.time() if now is None else now
    for document in documents:
        trials = f"{document['ended']}/{document['asked'] or '?'}"
        disk, updated = float(str(document["disk_bytes"])), float(str(document["updated"]))
        cells = (document["sweep"], document["status"], trials, _best(document), format_quantity(disk, "B"))
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
    best = document["best"]
    if not isinstance(best, dict):
        return str(document["reason"] or "") if document["status"] == "damaged" else ""
    return ", ".join(map(str, best["readings"].values()))


def _disk_bytes(folder: Path) -> int:
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    """Yield the sizes of all files; a running sweep may remove any, and another user's folder may be closed."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(Path(entry.path))
                continue
            with suppress(OSError):
                yield entry.stat(follow_symlinks=False).st_size
