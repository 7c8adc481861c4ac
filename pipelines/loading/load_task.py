"""Load a task by its name, `module:function` or `./file.py:function`."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TypeAlias, cast

from paretta.pipelines.task import Task
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean
from paretta.search_spaces.registry import TASKS

Make: TypeAlias = "Callable[..., Task]"


def load_task(use: str, options: Mapping[str, object] | None = None, folder: Path = Path()) -> Task:
    """Make the task that a sweep file names.

    Args:
        use: a registered name, ``module:attribute``, or ``./file.py:attribute`` relative to `folder`; what it names is
            a function that returns a Task.
        options: the function's keyword arguments.
        folder: the sweep file's folder, where its own modules are found as well.

    Raises:
        WrongInput: the file, the module or the function is missing, fails, or returns something else.
    """
    make = _maker(use, folder)
    _check_options(use, make, options or {})
    with blaming(use, "making the task"):
        task: object = make(**(options or {}))
    if not isinstance(task, Task):
        mend = "return paretta.pipelines.task.Task(model=..., train=..., ...)"
        raise WrongInput(Problem(f"task {use}", "must return a Task", type(task).__name__, mend))
    return task


def _maker(use: str, folder: Path) -> Make:
    place, _, attribute = use.rpartition(":")
    if not place:
        return cast(Make, TASKS.load(use))
    module = _file_module(use, folder / place) if place.endswith(".py") else _named_module(use, place, folder)
    if not hasattr(module, attribute):
        known = [name for name in vars(module) if not name.startswith("_")]
        raise WrongInput(Problem(f"task {use}", did_you_mean(attribute, known, "attribute of the module")))
    make = getattr(module, attribute)
    if not callable(make):
        mend = "name a function that returns a Task"
        raise WrongInput(Problem(f"task {use}", "must name something callable", type(make).__name__, mend))
    return cast(Make, make)


def _file_module(use: str, path: Path) -> ModuleType:
    if not path.is_file():
        mend = "give the path relative to the sweep file's folder"
        raise WrongInput(Problem(f"task {use}", "the file must exist", str(path.absolute()), mend))
    path = path.resolve()
    name = f"paretta_task_{sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _let_import_from(path.parent)
    # registered before it runs, as the import system does: dataclasses and pickle look their module up by name
    sys.modules[name] = module
    with blaming(use, "importing it"):
        spec.loader.exec_module(module)
    return module


def _named_module(use: str, place: str, folder: Path) -> ModuleType:
    _let_import_from(folder.resolve())
    with blaming(use, "importing it"):
        return importlib.import_module(place)


def _let_import_from(folder: Path) -> None:
    """Let a task import its neighbours; last on the path, so that they hide nothing installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _check_options(use: str, make: Make, options: Mapping[str, object]) -> None:
    signature = inspect.signature(make)
    try:
        signature.bind(**options)
    except TypeError as error:
        rule = f"its options must fit {getattr(make, '__name__', 'make')}{signature}: {error}"
        raise WrongInput(Problem(f"task {use} options", rule, dict(options))) from None


class blaming:  # noqa: N801 - reads as a verb in a with statement
    """Turn whatever the user's code raises inside the block into WrongInput with the original message and line."""

    def __init__(self, use: str, doing: str) -> None:
        self.where, self.doing = f"task {use}", doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, WrongInput):
            raise WrongInput(Problem(self.where, f"{self.doing} failed: {_told(error)}")) from error


def _told(error: Exception) -> str:
    """Name the error, its message and the line it comes from."""
    message = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:
        return message
    return f"{message} (at {frames[-1].filename}:{frames[-1].lineno})"
