"""The one folder that sweeps are written to: which sweeps it holds, and what a new one is called."""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paretta.dashboards.journal.journal import JOURNAL_FILE
from paretta.dashboards.journal.liveness import HOME_VARIABLE
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Home:
    """A folder with one sub-folder a sweep, and the local MLflow store beside them."""

    path: Path

    @classmethod
    def at(cls, path: str | Path | None = None) -> "Home":
        """Return the home at `path`, else at ``$PARETTA_HOME``, else ``./sweeps``."""
        return cls(Path(path or os.environ.get(HOME_VARIABLE) or "sweeps").resolve())

    def tracking_uri(self) -> str:
        """Return the local MLflow store: one SQLite file."""
        return f"sqlite:///{self.path / 'mlflow.db'}"

    def sweeps(self) -> tuple[str, ...]:
        """List the sweeps that are here, sorted."""
        return tuple(sorted(journal.parent.name for journal in self.path.glob(f"*/{JOURNAL_FILE}")))

    def find(self, sweep: str) -> Path:
        """Return the folder of a sweep given by its name or by its folder. Raises `WrongInput` where there is none."""
        for folder in (self.path / sweep, Path(sweep)):
            if (folder / JOURNAL_FILE).is_file():
                return folder.resolve()
        rule = did_you_mean(sweep, self.sweeps(), "sweep")
        raise WrongInput(Problem(f"sweep in {self.path}", rule, mend="look with --home DIR in another folder"))

    def free_name(self, name: str) -> str:
        """Return `name`, or where a sweep has it ``name-2``, ``name-3`` and so on."""
        taken = {folder.name for folder in self.path.glob("*")}
        return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)

    def check_name(self, name: str) -> None:
        """Raise `WrongInput` if a sweep may not be called `name`, or one is already."""
        if not _NAME.fullmatch(name):
            rule = "a sweep's name is 1 to 64 jobs, digits, - and _, and starts with a job or digit"
            raise WrongInput(Problem("--name", rule, name))
        if (self.path / name).exists():
            rule = f"{self.path} already has a sweep of this name"
            raise WrongInput(Problem("--name", rule, name, f"choose another, such as {self.free_name(name)}"))

    def check_writable(self) -> None:
        """Raise `WrongInput` if sweeps cannot be written here. Nothing stays behind: a folder is made and removed.

        Permissions alone do not tell: root may write anywhere, but not to a read-only disk.
        """
        nearest = next(folder for folder in (self.path, *self.path.parents) if folder.exists())
        try:
            tempfile.TemporaryDirectory(dir=nearest, prefix=".paretta-").cleanup()
        except OSError as error:
            rule = f"sweeps cannot be written here: {error.strerror}: {nearest}"
            mend = "choose another folder with --home DIR"
            raise WrongInput(Problem("--home", rule, str(self.path), mend)) from None
