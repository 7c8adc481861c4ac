"""Remove a sweep for good: its folder, and what MLflow has of it."""

import shutil
from pathlib import Path

from paretta.dashboards.journal.journal import is_written, written_elsewhere
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.store import DATABASE_FILE, default_uri
from paretta.search_spaces.errors import DamagedRecord


def remove_sweep(folder: Path, tracking_uri: str | None = None) -> str:
    """Remove the sweep in `folder`, first from MLflow, and say in one line what was removed.

    Args:
        folder: of the sweep.
        tracking_uri: the store that it was recorded in; by default the SQLite file beside the folder, if there is one.

    Raises:
        WrongInput: a process runs the sweep, or the store cannot be reached; nothing was removed.
        StoreUnavailable: the store stopped responding; the folder is still there, so it can be called again.
    """
    if is_written(folder):
        raise written_elsewhere(folder)
    store = tracking_uri or (default_uri(folder.parent) if (folder.parent / DATABASE_FILE).is_file() else None)
    told = "there was no MLflow store"
    if store is not None:
        told = _removed_from(store, folder)
    shutil.rmtree(folder)
    return f"{folder.name} is removed; {told}"


def _removed_from(store: str, folder: Path) -> str:
    from paretta.dashboards.tracking.removal import remove_from_store  # noqa: PLC0415 - MLflow is loaded only if there is one

    try:
        record = SweepRecord.read(folder)
    except DamagedRecord:
        return "MLflow keeps its runs, since its journal cannot be read"
    if not record.started:
        return "MLflow had no runs of it"
    return f"{remove_from_store(record, store)} runs are in MLflow's trash, its models are deleted"
