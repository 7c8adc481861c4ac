"""Give each process of a cluster access to a sweep's files, on a shared disk or through a storage."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from paretta.orchestrator.cluster.private_folder import private_folder
from paretta.orchestrator.storage.object_store import Storage
from paretta.search_spaces.errors import TrialFailed, first_line

_PAUSES_S: Final = (0.5, 2.0, 8.0, 20.0)  # seconds between attempts, beside the client's own retries

_log = logging.getLogger("paretta")


@dataclass(frozen=True, slots=True)
class SweepFiles:
    """The files of one sweep, named by their path below the sweep's folder, such as ``artifacts/0001-c0ffee``.

    With a storage, only the driver uses the sweep's folder. If this object is pickled to another process, its root
    there is a scratch folder of that node; new files are uploaded from it and needed ones downloaded to it.

    Args:
        root: the folder of the files for this process.
        storage: URI of any file system that pyarrow supports; None if all nodes see `root`.
    """

    root: Path
    storage: str | None = None

    def __reduce__(self) -> tuple[Callable[[Path, str | None], "SweepFiles"], tuple[Path, str | None]]:
        """Use a scratch folder as root in another process."""
        return _elsewhere, (self.root, self.storage)

    def path(self, name: str) -> Path:
        """Return the path of `name` in this process, whether it exists or not."""
        return self.root / name

    def bring(self, name: str) -> Path:
        """Return the path of a file or folder, downloaded from the storage unless it is up to date here.

        Raises `TrialFailed` if the storage is unavailable for half a minute.
        """
        _patiently(f"read {name} from {self.storage}", lambda: self.bring_now(name))
        return self.root / name

    def send(self, name: str) -> None:
        """Upload a file or folder that this process has made. Raises like `bring`."""
        _patiently(f"write {name} to {self.storage}", lambda: self.send_now(name))

    def bring_now(self, name: str) -> None:
        """Download without retries; raises `OSError` if the storage is unavailable."""
        if self.storage is not None:
            Storage(self.storage).bring(name, self.root)

    def send_now(self, name: str) -> None:
        """Upload without retries; raises `OSError` if the storage is unavailable."""
        if self.storage is not None:
            Storage(self.storage).send(name, self.root)

    def keep_within(self, name: str, size: int) -> None:
        """Remove the oldest files of the folder `name` in the storage until at most `size` bytes are left."""
        if self.storage is not None:
            Storage(self.storage).keep_within(name, size)

    def remove(self, name: str) -> None:
        """Remove a folder here and in the storage, on a best-effort basis, since leftovers only cost space."""
        shutil.rmtree(self.root / name, ignore_errors=True)
        if self.storage is not None:
            try:
                Storage(self.storage).remove(name)
            except OSError as error:
                _log.warning("%s cannot be removed from the storage: %s", name, error)


def _elsewhere(root: Path, storage: str | None) -> SweepFiles:
    return SweepFiles(root if storage is None else _scratch(storage), storage)


def _scratch(storage: str) -> Path:
    """Return this node's scratch folder for one sweep, shared by its processes."""
    return private_folder() / sha256(storage.encode()).hexdigest()[:16]


def _patiently(doing: str, act: Callable[[], None]) -> None:
    for pause in _PAUSES_S:
        try:
            return act()
        except OSError:
            time.sleep(pause)
    try:
        act()
    except OSError as error:
        raise TrialFailed(f"storage: cannot {doing}: {first_line(error)}") from None
