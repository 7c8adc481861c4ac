"""Copy a running sweep's journal and reports to its storage, so that it can be followed and resumed elsewhere."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import unquote

from paretta.dashboards.journal.home_names import JOURNAL_FILE
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.publisher import LOCK_FILE
from paretta.orchestrator.storage.driver_file import DRIVER_FILE
from paretta.orchestrator.storage.home import Home
from paretta.orchestrator.storage.object_store import Storage, is_uri
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput

EVERY_S: Final = 15.0
_ONLY_HERE: Final = frozenset({LOCK_FILE, DRIVER_FILE})
_kept: Final[list[TemporaryDirectory[str]]] = []  # temporary copies for reading, removed when the process ends


@contextmanager
def mirrored(files: SweepFiles, note: Callable[[str], None]) -> Iterator[None]:
    """Mirror the files directly in the sweep's folder to its storage inside the block, and once more at its end.

    An outage of the storage is reported; the files are copied as soon as it is over.
    """
    if files.storage is None:
        yield
        return
    mirror, over = _Mirror(files), threading.Event()

    def copy() -> None:
        while not over.wait(EVERY_S):
            try:
                mirror.copy(files.send_now)
            except OSError as error:
                note(f"the storage cannot be written, trying again: {error}")

    thread = threading.Thread(target=copy, name="paretta-mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        try:
            mirror.copy(files.send)
        except TrialFailed as error:
            note(f"the end of the sweep was not copied to the storage: {error}")


class _Mirror:
    """Tracks which version of each file has been copied."""

    def __init__(self, files: SweepFiles) -> None:
        self.files = files
        self.copied: dict[str, tuple[int, int]] = {}

    def copy(self, send: Callable[[str], None]) -> None:
        """Copy the changed files, the journal last, so that it refers to no file that is missing."""
        files = [path for path in self.files.root.iterdir() if path.is_file() and not path.name.startswith(".")]
        for path in sorted(files, key=lambda path: path.name == JOURNAL_FILE):
            found = path.stat()
            state = (found.st_mtime_ns, found.st_size)
            if path.name not in _ONLY_HERE and self.copied.get(path.name) != state:
                send(path.name)
                self.copied[path.name] = state


def found(home: Home, sweep: str) -> SweepFiles:
    """Find a sweep by name, folder or URI in a storage; for a URI first copy its journal and reports here.

    Raises:
        WrongInput: the sweep does not exist, or the storage cannot be read.
    """
    if not is_uri(sweep):
        return SweepFiles(home.find(sweep))
    scratch = TemporaryDirectory(prefix="paretta-")
    _kept.append(scratch)
    return _copied(sweep, Path(scratch.name))


def taken_home(home: Home, uri: str) -> Path:
    """Copy a sweep with its artifacts from a storage to `home`, to resume it here, and return its folder.

    Raises:
        WrongInput: the sweep does not exist, the storage cannot be read, or `home` has a sweep of this name.
    """
    home.check_writable()
    home.check_name(_name(uri))
    files = _copied(uri, home.path)
    for trial in SweepRecord.read(files.root).trials.values():
        if trial.artifact is not None and trial.is_measured:
            files.bring(trial.artifact)
    return files.root


def _copied(uri: str, parent: Path) -> SweepFiles:
    files = SweepFiles(parent / _name(uri), uri)
    try:
        names = Storage(uri).names()
        if JOURNAL_FILE not in names:
            raise WrongInput(Problem("sweep", "there is no such sweep", uri, "write it like s3://bucket/sweeps/NAME"))
        for name in names:
            files.bring_now(name)
    except (OSError, ValueError) as error:
        raise WrongInput(Problem("sweep", f"its storage cannot be read: {error}", uri)) from None
    return files


def _name(uri: str) -> str:
    return unquote(uri.partition("?")[0].rstrip("/").rpartition("/")[2])
