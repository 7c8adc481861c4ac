"""Rename, archive, bring back or remove a whole sweep: its folder, and what MLflow has of it."""

import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

from paretta.dashboards.journal.home_names import ARCHIVED_FILE, is_archived, sweep_folders
from paretta.dashboards.journal.journal import Journal, events, written_elsewhere
from paretta.dashboards.journal.liveness import is_written
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.report.html_report import write_report
from paretta.dashboards.tracking.publisher import publish_sweep, publisher_lock
from paretta.dashboards.tracking.store import DATABASE_FILE, StoreUnavailable, default_uri, probe
from paretta.dashboards.tracking.sync_status import recorded_in
from paretta.orchestrator.storage.home import Home
from paretta.orchestrator.sweeps.result import REPORT_FILE
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import DamagedRecord, Problem, WrongInput

_NO_STORE: Final = "there is no MLflow store"
_UNREADABLE: Final = "MLflow keeps its runs, since its journal cannot be read"


def remove_sweep(folder: Path, tracking_uri: str | None = None) -> str:
    """Remove the sweep in `folder`, first from MLflow, and say in one line what was removed.

    Args:
        folder: of the sweep.
        tracking_uri: the store; by default the server or database that it was recorded in, or the file beside the
            folder, if there is one.

    Raises:
        WrongInput: a process runs the sweep, or the store cannot be reached; nothing was removed.
        StoreUnavailable: the store stopped responding; the folder is still there, so it can be called again.
    """
    if is_written(folder):
        raise written_elsewhere(folder)

    def remove(record: SweepRecord, store: str) -> str:
        from paretta.dashboards.tracking.lifecycle import remove_from_store  # noqa: PLC0415 - MLflow is loaded only if there is a store

        return f"{remove_from_store(record, store)} runs are in MLflow's trash, its models are deleted"

    told = _in_store(folder, tracking_uri, remove)
    placed = _storage_of(folder)
    shutil.rmtree(folder)
    return f"{folder.name} is removed; {told}{f'; its files in {placed} stay' if placed else ''}"


def rename_sweep(folder: Path, name: str, tracking_uri: str | None = None) -> str:
    """Call the sweep in `folder` `name`, on the disk and in MLflow, and say in one line what was renamed.

    Its files in a storage keep their address.

    Args:
        folder: of the sweep; its name becomes `name`.
        name: the new name.
        tracking_uri: as for `remove_sweep`.

    Raises:
        WrongInput: the name is not allowed or taken, a process runs or publishes the sweep, or the store cannot be
            reached; nothing was renamed.
        StoreUnavailable: the store stopped responding after the folder was renamed; `paretta publish` does the rest.
    """
    home = Home(folder.parent)
    home.check_name(name, "NEW")
    store = store_of(folder, tracking_uri)
    if store is not None:
        probe(store, existing=True)
    renamed, readers = folder.with_name(name), _readers(folder)
    with _alone(folder):
        folder.rename(renamed)

    def rename(record: SweepRecord, store: str) -> str:
        from paretta.dashboards.tracking.lifecycle import rename_in_store  # noqa: PLC0415 - MLflow is loaded only if there is a store

        if (renamed / REPORT_FILE).is_file():
            write_report(record, renamed / REPORT_FILE)
        if is_archived(renamed):
            return "MLflow takes the name when it is brought back"
        with _publish_later(f"{folder.name} is called {name} on the disk, but not in MLflow", name):
            runs, model = rename_in_store(record, store)
        return f"{runs} runs in MLflow have the name{f', its models are models:/{model}' if model else ''}"

    told = _in_store(renamed, store, rename)
    later = f"; {', '.join(readers)} began from its results and can go on only while it has the old name"
    return f"{folder.name} is called {name}; {told}{later if readers else ''}"


def archive_sweep(folder: Path, tracking_uri: str | None = None) -> str:
    """Leave the sweep in `folder` out of lists, pages and MLflow's tables, and say so in one line.

    It keeps all its files and its registered models. Its runs wait in MLflow's trash. The arguments are those of
    `remove_sweep`.

    Raises:
        WrongInput: it is archived already, a process runs or publishes it, or the store cannot be reached.
        StoreUnavailable: the store stopped responding; nothing has changed but some runs, so call it again.
    """
    if is_archived(folder):
        raise WrongInput(Problem("archive", "this sweep is archived already", folder.name))

    def archive(record: SweepRecord, store: str) -> str:
        from paretta.dashboards.tracking.lifecycle import archive_in_store  # noqa: PLC0415 - MLflow is loaded only if there is a store

        return f"{archive_in_store(record, store)} runs are in MLflow's trash"

    with _alone(folder):
        told = _in_store(folder, tracking_uri, archive)
        (folder / ARCHIVED_FILE).touch()
    return f"{folder.name} is archived; {told}"


def restore_sweep(folder: Path, tracking_uri: str | None = None) -> str:
    """Bring an archived sweep back to all lists and to MLflow, and say so in one line.

    The arguments are those of `remove_sweep`.

    Raises:
        WrongInput: it is not archived, or the store cannot be reached.
        StoreUnavailable: the store stopped responding; call it again, or publish the sweep if it is back.
    """
    if not is_archived(folder):
        raise WrongInput(Problem("archive --undo", "this sweep is not archived", folder.name))

    def restore(record: SweepRecord, store: str) -> str:
        from paretta.dashboards.tracking.lifecycle import restore_in_store  # noqa: PLC0415 - MLflow is loaded only if there is a store

        restored = restore_in_store(record, store)
        (folder / ARCHIVED_FILE).unlink()
        with _publish_later(f"{folder.name} is back, but not all of it is in MLflow", folder.name):
            publish_sweep(record, store)
        return f"{restored} runs are in MLflow again"

    told = _in_store(folder, tracking_uri, restore)
    (folder / ARCHIVED_FILE).unlink(missing_ok=True)
    return f"{folder.name} is back; {told}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make sure that no process runs or publishes the sweep. Raises `WrongInput` if one does."""
    with Journal(folder), publisher_lock(folder):
        yield


@contextmanager
def _publish_later(told: str, name: str) -> Iterator[None]:
    """Say what was done and what `paretta publish` would do, if the store stops responding in between."""
    try:
        yield
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{told}: {error}; write it with `paretta publish {shlex.quote(name)}`") from None


def _in_store(folder: Path, tracking_uri: str | None, act: Callable[[SweepRecord, str], str]) -> str:
    """Do something with what the store has of a sweep, if there is a store and the sweep's journal can be read."""
    store = store_of(folder, tracking_uri)
    if store is None:
        return _NO_STORE
    try:
        record = SweepRecord.read(folder)
    except DamagedRecord:
        return _UNREADABLE
    return act(record, store) if record.started else "MLflow has no runs of it"


def store_of(folder: Path, tracking_uri: str | None) -> str | None:
    """Return the store of a sweep: the given one, else that of its last publication, else the file in its home.

    Raises `WrongInput` if the last one was a server or database whose password is not known here.
    """
    if tracking_uri is not None:
        return tracking_uri
    recorded = recorded_in(folder)
    if "***" in recorded:
        rule, hint = "it is recorded in a store with a password", "give the store's URI"
        raise WrongInput(Problem("--tracking-uri", rule, recorded, hint))
    if recorded and not recorded.startswith("sqlite"):
        return recorded
    return default_uri(folder.parent) if (folder.parent / DATABASE_FILE).is_file() else None


def _readers(folder: Path) -> list[str]:
    """Return the names of the sweeps beside it that began from its results, which they look up by its name."""
    return [other.name for other in sweep_folders(folder.parent) if folder.name in _warm_start(other)]


def _warm_start(folder: Path) -> list[str]:
    config = cast(Document, (_opening(folder) or {}).get("config") or {})
    return cast(list[str], cast(Document, config.get("search") or {}).get("warm_start") or [])


def _storage_of(folder: Path) -> str | None:
    facts = cast(Document, (_opening(folder) or {}).get("facts") or {})
    return cast("str | None", facts.get("storage"))


def _opening(folder: Path) -> Document | None:
    """Return the event that opened a sweep; None if there is none that can be read."""
    try:
        return next((event for event, _ in events(folder) if event["event"] == "sweep"), None)
    except (DamagedRecord, OSError):
        return None
