"""The home folder of sweeps: list and find sweeps, and name new ones."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Final

from paretta.dashboards.journal.home_names import HOME_VARIABLE, JOURNAL_FILE, is_archived, sweep_folders
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean

_NAME: Final = re.compile(r"[^\W_][\w -]*")
_OTHER_SIGNS: Final = re.compile(r"[^\w -]")
_LONGEST, _DIGITS = 64, 4  # the most characters of a name, and how many of them a number may take


@dataclass(frozen=True, slots=True)
class Home:
    """A folder with one sub-folder per sweep and the local MLflow store."""

    path: Path

    @classmethod
    def at(cls, path: str | Path | None = None) -> "Home":
        """Return the home at `path`, by default ``$PARETTA_HOME`` or else ``./sweeps``."""
        return cls(Path(path or os.environ.get(HOME_VARIABLE) or "sweeps").resolve())

    def tracking_uri(self) -> str:
        """Return the URI of the local MLflow store, a SQLite file."""
        from paretta.dashboards.tracking.store import default_uri  # noqa: PLC0415 - most verbs need no store

        return default_uri(self.path)

    def sweeps(self, *, archived: bool = False) -> tuple[str, ...]:
        """Return the names of the sweeps, sorted; with `archived`, the archived ones too."""
        return tuple(folder.name for folder in sweep_folders(self.path, archived=archived))

    def archived(self) -> tuple[str, ...]:
        """Return the names of the archived sweeps, sorted."""
        return tuple(folder.name for folder in sweep_folders(self.path) if is_archived(folder))

    def find(self, sweep: str) -> Path:
        """Return the folder of a sweep, given by name or folder. Raises `WrongInput` if there is none."""
        for folder in (self.path / sweep, Path(sweep)):
            if (folder / JOURNAL_FILE).is_file():
                return folder.resolve()
        rule = did_you_mean(sweep, self.sweeps(archived=True), "sweep")
        raise WrongInput(Problem(f"sweep in {self.path}", rule, hint="look with --home DIR in another folder"))

    def free_name(self, name: str) -> str:
        """Return `name`, or ``name-2``, ``name-3`` and so on if it is taken; forbidden characters become ``-``."""
        return next(self._free_names(name))

    def _free_names(self, name: str) -> Iterator[str]:
        taken = {folder.name for folder in self.path.glob("*")}
        usable = _OTHER_SIGNS.sub("-", name).strip(" -_")[: _LONGEST - _DIGITS] or "sweep"
        numbered = (f"{usable}-{number}" for number in count(2))
        return (name for name in chain([usable], numbered) if name not in taken)

    def check_name(self, name: str, where: str = "--name") -> None:
        """Raise `WrongInput` if `name`, which was given at `where`, is not allowed or already taken."""
        if not _NAME.fullmatch(name) or len(name) > _LONGEST or name.endswith(" "):
            rule = f"a sweep's name is 1 to {_LONGEST} letters, digits, spaces, - and _"
            rule += ", and starts with a letter or digit"
            raise WrongInput(Problem(where, rule, name))
        if (self.path / name).exists():
            raise self._taken(name, where)

    def _taken(self, name: str, where: str = "--name") -> WrongInput:
        rule = f"{self.path} already has a sweep of this name"
        return WrongInput(Problem(where, rule, name, f"choose another, such as {self.free_name(name)}"))

    @contextmanager
    def claimed(self, name: str | None, file_name: str) -> Iterator[Path]:
        """Create the folder of a new sweep atomically, and yield it.

        The folder is removed if the block raises before anything was written to it.

        Args:
            name: of the sweep; by default that of its file, with a number appended if it is taken.
            file_name: of the sweep's file, without its extension.

        Raises:
            WrongInput: `name` is not allowed or already taken.
        """
        if name is not None:
            self.check_name(name)
        new = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        folder = self._made(name, file_name)
        try:
            yield folder
        except BaseException:
            with suppress(OSError):  # the folder is not empty
                for made in (folder, *new):
                    made.rmdir()
            raise

    def _made(self, name: str | None, file_name: str) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        for chosen in self._free_names(file_name) if name is None else [name]:
            try:
                (self.path / chosen).mkdir()
            except FileExistsError:
                continue  # another launch has just taken the name
            return self.path / chosen
        raise self._taken(str(name))

    def check_writable(self) -> None:
        """Raise `WrongInput` if sweeps cannot be written here; tested by creating and removing a folder.

        Permissions alone are not enough: root may write anywhere, but not to a read-only disk.
        """
        nearest = next(folder for folder in (self.path, *self.path.parents) if folder.exists())
        try:
            tempfile.TemporaryDirectory(dir=nearest, prefix=".paretta-").cleanup()
        except OSError as error:
            rule = f"sweeps cannot be written here: {error.strerror}: {nearest}"
            hint = "choose another folder with --home DIR"
            raise WrongInput(Problem("--home", rule, str(self.path), hint)) from None
