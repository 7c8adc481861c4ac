"""A task that Python code passes: workers import it by name, or read it from a file that is sent to them."""

import os
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeAlias, Union

from paretta.search_spaces.faults import blaming

if TYPE_CHECKING:
    from paretta.pipelines.task import Task

GivenTask: TypeAlias = Union[str, "Callable[..., Task]", "Task"]

CARRIED_FILE: Final = "task.pkl"
TASK_FOLDER: Final = "task"  # of a sweep, for this file
_LIBRARIES: Final = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib"))
CARRIED: Final = f"./{CARRIED_FILE}"


@dataclass(frozen=True, slots=True)
class CarriedTask:
    """A task, or a function that makes it, which no module offers: one of a notebook, a script or another function.

    Args:
        made: the task or the function.
        name: of the function; ``make`` for what has none.
    """

    made: "Callable[..., Task] | Task"
    name: str

    def write(self, folder: Path) -> None:
        """Write it to `folder`, where every process of the sweep reads it.

        Raises `WrongInput` if it cannot be pickled, such as an open file.
        """
        import cloudpickle  # noqa: PLC0415 - only for tasks that are carried

        with blaming(f"task {self.name}", "pickling it for the workers"):
            paths = [os.path.abspath(path) for path in sys.path]
            content = cloudpickle.dumps((paths, cloudpickle.dumps(self.made)))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CARRIED_FILE).write_bytes(content)


def reference_of(task: GivenTask) -> tuple[str, Path, CarriedTask | None]:
    """Return the text that names a task in a sweep file, the folder it is relative to, and what must be carried.

    A function at the top of an imported module is named, so that each process imports the module.
    """
    if isinstance(task, str):
        return task, Path.cwd(), None
    name = getattr(task, "__name__", "")
    module = sys.modules.get(getattr(task, "__module__", None) or "")
    if module is not None and module.__name__ != "__main__" and getattr(module, name, None) is task:
        return f"{module.__name__}:{name}", _root(module), None
    return CARRIED, Path.cwd(), CarriedTask(task, name if name.isidentifier() else "make")


def carried_digest(use: str, folder: Path) -> dict[str, str]:
    """Return the SHA-256 (hex) of a carried task's file as one of its source files; nothing for other tasks."""
    if use != CARRIED:
        return {}
    return {CARRIED_FILE: sha256((folder / CARRIED_FILE).read_bytes()).hexdigest()}


def _root(module: ModuleType) -> Path:
    """Return the folder from which a module of the user is imported; for a library the current one.

    The folder is uploaded if the sweep joins a cluster, whose nodes have the libraries.
    """
    file = getattr(module, "__file__", None)
    if file is None:
        return Path.cwd()
    path = Path(file).resolve()
    root = (path.parent if path.name == "__init__.py" else path).parents[module.__name__.count(".")]
    ours = module.__name__.partition(".")[0] == "paretta"
    return Path.cwd() if ours or any(root == folder or folder in root.parents for folder in _LIBRARIES) else root
