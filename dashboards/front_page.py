"""The report of a sweep: one self-contained HTML file."""

from pathlib import Path

from dashboards.journal import SweepRecord


def write_report(record: SweepRecord, path: Path) -> None:
    """Write the report of `record` to `path`."""
    path.write_text(f"<!doctype html><title>{record.name}</title>")
