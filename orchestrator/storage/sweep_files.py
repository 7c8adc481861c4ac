"""A sweep's files as each process of a cluster finds them: on a disk that all share, or through a storage."""

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

_PAUSES_S: Final = (0.5, 2.0, 8.0, 20.0)  # between attempts to reach the storage, beside those of its own client

_log = logging.getLogger("paretta")


@dataclass(frozen=True, slots=True)
class SweepFiles:
    """The files of one sweep, each called by its path below the sweep's folder, such as ``artifacts/0001-c0ffee``.

    Where there is a storage, only the driver touches the sweep's folder. A copy of this object that is sent to another
    process has a scratch folder of that node as its root; what is made there is sent, what is needed is brought.

    Args:
        root: where the files are for this process.
        storage: URI of any file system of pyarrow's; None where all nodes see `root`.
    """

    root: Path
    storage: str | None = None

    def __reduce__(self) -> tuple[Callable[[Path, str | None], "SweepFiles"], tuple[Path, str | None]]:
        """Travel to another process, see above."""
        return _elsewhere, (self.root, self.storage)

    def path(self, name: str) -> Path:
        """Return where `name` is, or will be, for this process."""
        return self.root / name

    def bring(self, name: str) -> Path:
        """Return the path of a file or folder, copied from the storage unless this process has what is there.

        Raises `TrialFailed` where the storage stays away for half a minute.
        """
        _patiently(f"read {name} from {self.storage}", lambda: self.bring_now(name))
        return self.root / name

    def send(self, name: str) -> None:
        """Copy a file or folder that this process has made to the storage. Raises as `bring` does."""
        _patiently(f"write {name} to {self.storage}", lambda: self.send_now(name))

    def bring_now(self, name: str) -> None:
        """Bring without patience: raises `OSError` where the storage is away."""
        if self.storage is not None:
            Storage(self.storage).bring(name, self.root)

    def send_now(self, name: str) -> None:
        """Send without patience: raises `OSError` where the storage is away."""
        if self.storage is not None:
            Storage(self.storage).send(name, self.root)

    def keep_within(self, name: str, size: int) -> None:
        """Remove the oldest files of the folder `name` in the storage until `size` bytes are left of it."""
        if self.storage is not None:
            Storage(self.storage).keep_within(name, size)

    def remove(self, name: str) -> None:
        """Remove a folder here and in the storage, as far as that is possible; a left-over costs only space."""
        shutil.rmtree(self.root / name, ignore_errors=True)
        if self.storage is not None:
            try:
                Storage(self.storage).remove(name)
            except OSError as error:
                _log.warning("%s stays in the storage: %s", name, error)


def _elsewhere(root: Path, storage: str | None) -> SweepFiles:
    return SweepFiles(root if storage is None else _scratch(storage), storage)


def _scratch(storage: str) -> Path:
    """Return the folder of this node, shared by its processes, for the files of one sweep."""
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
