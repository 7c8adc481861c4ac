"""Temporary folders that no other user of the machine can read or write."""

import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from paretta.search_spaces.errors import Problem, WrongInput

# Unix socket paths end at 107 bytes. Ray puts up to 64 of them below its folder (`/session_<date>_<pid>/sockets/
# plasma_store`), and `/pa<pid>-<8 letters>/r` takes up to 21 of what is left.
LONGEST_TEMP_FOLDER: Final = 22
_OURS: Final = re.compile(r"pa(\d+)-\w{8}")


def private_folder() -> Path:
    """Return this user's folder for locks and copies on this machine, creating it if necessary.

    It is in the temporary folder or, if another user owns its name there, in the home folder.

    Raises:
        WrongInput: neither can be used.
    """
    choices = (Path(tempfile.gettempdir()) / f"paretta-{os.getuid()}", Path.home() / ".cache" / "paretta")
    for folder in choices:
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                folder.chmod(0o700)
                return folder
    raise WrongInput(Problem(str(choices[0]), "it belongs to another user", hint="set TMPDIR to a folder of your own"))


@contextmanager
def ray_folder() -> Iterator[Path]:
    """Create a folder for Ray's files and remove it on exit; also remove those that killed drivers left behind.

    Ray makes its folder readable by everybody, so it is placed inside a private one. Its path is short enough to leave
    room for the names of Unix sockets.
    """
    parent = Path(tempfile.gettempdir())
    parent = parent if len(str(parent)) <= LONGEST_TEMP_FOLDER else Path("/tmp")  # noqa: S108 - the closed one is below
    remove_stale(parent)
    closed = Path(tempfile.mkdtemp(prefix=f"pa{os.getpid()}-", dir=parent))
    held = os.open(closed, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (closed / "r").mkdir()
        yield closed / "r"
    finally:
        shutil.rmtree(closed, ignore_errors=True)
        os.close(held)


def remove_stale(parent: Path) -> None:
    """Remove this user's `ray_folder`s whose driver is gone: no process has its ID, and nobody holds its lock.

    The process ID of a driver in another container may not exist here, but its lock is visible.
    """
    for folder in parent.glob("pa*-*"):
        named = _OURS.fullmatch(folder.name)
        with suppress(OSError):
            found = folder.lstat()
            mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            if named and mine and not Path("/proc", named[1]).exists() and not _is_held(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_held(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
