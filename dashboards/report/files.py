"""Writing the tables and the picture of a sweep to files that the user names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.report.figure import front_picture
from paretta.dashboards.report.table import write_csv, write_front_json, write_parquet

_WRITERS: Final[Mapping[str, Callable[[SweepRecord, Path], None]]] = {
    "json": lambda record, path: write_front_json(record.front(), path),
    "csv": lambda record, path: write_csv(record.front().trials, path),
    "parquet": lambda record, path: write_parquet(record.front().trials, path),
    "picture": lambda record, path: front_picture(record.front(), path),
}


def write_files(record: SweepRecord, kind: str, path: Path) -> None:
    """Write the front as ``json`` (see ``dashboards/schemas/front.schema.json``) or ``picture``.

    The kinds ``csv`` and ``parquet`` write all trials as a table.
    """
    _WRITERS[kind](record, path)
