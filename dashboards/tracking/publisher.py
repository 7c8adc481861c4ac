"""Publishing a sweep to MLflow: once from its journal, or during a running sweep from a separate process."""

import argparse
import fcntl
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from paretta.dashboards.journal.home_names import is_archived
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.journal_tail import Tail
from paretta.dashboards.tracking.store import (
    StoreUnavailable,
    default_artifacts,
    default_uri,
    open_store,
    probe,
    without_password,
)
from paretta.dashboards.tracking.sync import Publication
from paretta.dashboards.tracking.sync_status import SyncStatus, read_sync_status, write_sync_status
from paretta.search_spaces.errors import Problem, WrongInput

LOCK_FILE: Final = "publisher.lock"
LOG_FILE: Final = "publisher.log"
_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
_POLL: Final = 0.5
_NICENESS: Final = 5  # training has priority


def publish_sweep(
    source: SweepRecord | Path,
    tracking_uri: str | None = None,
    *,
    experiment: str | None = None,
    patience: float = 60.0,
) -> SyncStatus:
    """Write the record of a sweep to MLflow, from its journal alone; what the store already has is not written again.

    Args:
        source: the sweep, or its folder.
        tracking_uri: any MLflow store; by default the SQLite file beside the sweep's folder.
        experiment: name of the experiment; by default derived from the task.
        patience: seconds to keep trying while no write succeeds.

    Raises:
        WrongInput: the store cannot be reached at the start, another process is publishing the sweep, or it is
            archived.
        StoreUnavailable: the store was unavailable for longer than `patience`.
    """
    folder = source.folder if isinstance(source, SweepRecord) else source
    if is_archived(folder):
        hint = f"bring it back with `paretta archive --undo {shlex.quote(folder.name)}`"
        raise WrongInput(Problem(str(folder), "an archived sweep is not published", hint=hint))
    uri = tracking_uri or default_uri(folder.parent)
    probe(uri)
    with publisher_lock(folder):
        tail = Tail.of(folder)
        tail.read()
        publication, backoff = _open(tail, uri, experiment), Backoff()
        while True:
            try:
                publication.update()
                return _note(folder, uri, tail, publication)
            except StoreUnavailable:
                if backoff.waited >= patience:
                    raise
                backoff.wait(publication.writes)


def _open(tail: Tail, tracking_uri: str, experiment: str | None) -> Publication:
    artifacts = default_artifacts(tracking_uri, tail.record.folder.parent)
    return Publication(tail, open_store(tracking_uri), experiment=experiment, artifacts=artifacts)


@dataclass(slots=True)
class Backoff:
    """Waits longer after each consecutive failure, up to 15 seconds; progress resets it.

    Args:
        waited: seconds waited since the last progress.
    """

    waited: float = 0.0
    _failures: int = 0
    _progress: int = 0

    def wait(self, progress: int) -> None:
        """Wait after a failure; `progress` is any count that increases when work gets done."""
        if progress > self._progress:
            self.waited, self._failures, self._progress = 0.0, 0, progress
        pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        time.sleep(pause)
        self.waited, self._failures = self.waited + pause, self._failures + 1


@contextmanager
def publisher_lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock to publish the sweep in `folder`; it is released when the process ends, however it ends.

    Raises `WrongInput` if another process holds it and `wait` is false.
    """
    with (folder / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            hint = "it will write everything that is missing; wait for it, or stop it"
            raise WrongInput(Problem(str(folder), "another process is publishing this sweep", hint=hint)) from None
        yield


def follow_journal(
    folder: Path, tracking_uri: str, *, experiment: str | None = None, driver: int | None = None
) -> SyncStatus:
    """Publish a sweep while its journal grows, until the sweep has ended and the store has all of it.

    An unavailable store delays the record and nothing else. If `driver` is given, the id of the parent process that
    writes the journal, this also returns once that process is gone and nothing is left to write.
    """
    with publisher_lock(folder, wait=True):
        tail = Tail.of(folder)
        publication: Publication | None = None
        pending, alone, backoff = True, False, Backoff()
        while True:
            if driver is not None and os.getppid() != driver and not alone:
                alone = pending = True  # the driver's death changes the record, but is not in the journal
            pending = tail.read() or pending
            try:
                publication = publication or _open(tail, tracking_uri, experiment)
                if pending:
                    publication.update()
            except StoreUnavailable as away:
                uri = without_password(tracking_uri)
                write_sync_status(folder, replace(read_sync_status(folder), tracking_uri=uri, away=str(away)))
                backoff.wait(publication.writes if publication else 0)
                continue
            status = _note(folder, tracking_uri, tail, publication)
            if not pending and (alone or tail.record.status != "running"):
                return status
            pending = False
            time.sleep(_POLL)


def _note(folder: Path, tracking_uri: str, tail: Tail, publication: Publication) -> SyncStatus:
    uri, ids = without_password(tracking_uri), (publication.experiment_id, publication.run_id)
    write_sync_status(folder, SyncStatus(uri, *ids, position=tail.position, refused=publication.refused))
    return read_sync_status(folder)


class Publisher:
    """Runs `follow_journal` in a separate process while the driver runs the sweep.

    This costs the driver only the start of a process: it never imports MLflow, and no event waits for the store. If
    the driver is killed, the process writes the rest of the journal and exits.

    Args:
        folder: folder of the sweep; its journal exists.
        tracking_uri: the store; by default the SQLite file beside the sweep's folder.
        experiment: name of the experiment; by default derived from the task.
    """

    def __init__(self, folder: Path, tracking_uri: str | None = None, *, experiment: str | None = None) -> None:
        """Start the process."""
        self._folder = folder
        self._tracking_uri = tracking_uri or default_uri(folder.parent)
        self._arguments = [str(folder), *(["--experiment", experiment] if experiment else [])]
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        # -P and the explicit path: a user's folder called `paretta` must not shadow this package
        command = [
            sys.executable,
            "-P",
            "-m",
            "paretta.dashboards.tracking.publisher",
            *self._arguments,
            "--driver",
            str(os.getpid()),
        ]
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")]))
        with (self._folder / LOG_FILE).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  our own module
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to the driver only, which then writes the end event
                env={**os.environ, "PYTHONPATH": path},
            )
        assert process.stdin is not None
        # not as an argument: every user of the machine can see those, and a store's URI may contain a password
        with suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(f"{self._tracking_uri}\n".encode())
        return process

    def status(self) -> SyncStatus:
        """Return how far the record is behind the journal."""
        return read_sync_status(self._folder)

    def close(self, timeout: float = 60.0) -> SyncStatus:
        """Wait up to `timeout` seconds until the store has everything, then end the process.

        Call it after the end event. A process that died is restarted once. `publish_sweep` can write later what is
        still missing.
        """
        until = time.monotonic() + timeout
        if self._process.poll() not in (None, 0):
            self._process = self._start()
        try:
            self._process.wait(max(until - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        return self.status()

    def __enter__(self) -> Self:
        """Use as a context manager: closes at the end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()


def run_publisher(arguments: list[str] | None = None) -> None:
    """Publish one sweep while its journal grows; the store's URI is read from standard input."""
    parser = argparse.ArgumentParser(
        prog="python -m paretta.dashboards.tracking.publisher", description=run_publisher.__doc__
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--experiment")
    parser.add_argument("--driver", type=int, help="end when this parent process is gone and nothing is left to write")
    given = parser.parse_args(arguments)
    os.nice(_NICENESS)
    follow_journal(given.folder, sys.stdin.readline().strip(), experiment=given.experiment, driver=given.driver)


if __name__ == "__main__":
    run_publisher()
