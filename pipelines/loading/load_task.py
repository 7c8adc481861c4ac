"""Load a task by its name, `module:function` or `./file.py:function`, or from the file that carries it."""

import inspect
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias, cast

from paretta.pipelines.task import Task
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.faults import blaming
from paretta.search_spaces.registry import TASKS
from paretta.search_spaces.user_code import load_object, look_in, streams_kept

Make: TypeAlias = "Callable[..., Task]"


def load_task(use: str, options: Mapping[str, object] | None = None, folder: Path = Path()) -> Task:
    """Make the task that a sweep file names.

    Args:
        use: a registered name, ``module:attribute``, or ``./file.py:attribute`` relative to `folder`; what it names is
            a function that returns a Task. Or ``./file.pkl``, a task or function that was launched from Python.
        options: the function's keyword arguments.
        folder: the sweep file's folder, from which modules can be imported too.

    Raises:
        WrongInput: the file, the module or the function is missing, fails, or returns something else.
    """
    look_in(folder)
    with streams_kept():
        make = _carried(folder / use, f"task {use}") if use.endswith(".pkl") else _maker(use)
        if isinstance(make, Task):
            return make
        _check_options(use, make, options or {})
        with blaming(f"task {use}", "making the task"):
            task: object = make(**(options or {}))
    if not isinstance(task, Task):
        hint = "return paretta.pipelines.task.Task(model=..., train=..., ...)"
        raise WrongInput(Problem(f"task {use}", "must return a Task", type(task).__name__, hint))
    return task


def _carried(path: Path, where: str) -> "Make | Task":
    """Read what `paretta.orchestrator.config.carried_task` wrote: import paths, and a task or a function."""
    if not path.is_file():
        hint = "a task that was launched from Python is kept only in its sweep's folder; name a function of a file"
        raise WrongInput(Problem(where, "the file must exist", str(path), hint))
    with blaming(where, "reading it"):
        paths, content = pickle.loads(path.read_bytes())  # noqa: S301 - code of the user, like any task
        sys.path += [folder for folder in paths if folder not in sys.path]
        return cast("Make | Task", pickle.loads(content))  # noqa: S301


def _maker(use: str) -> Make:
    if use.endswith(".py"):
        raise WrongInput(Problem(f"task {use}", "must name a function of the file", use, f"write {use}:make"))
    make = load_object(use, f"task {use}") if ":" in use else TASKS.load(use)
    if not callable(make):
        hint = "name a function that returns a Task"
        raise WrongInput(Problem(f"task {use}", "must name something callable", type(make).__name__, hint))
    return cast(Make, make)


def _check_options(use: str, make: Make, options: Mapping[str, object]) -> None:
    signature = inspect.signature(make)
    try:
        signature.bind(**options)
    except TypeError as error:
        rule = f"its options must fit {getattr(make, '__name__', 'make')}{signature}: {error}"
        raise WrongInput(Problem(f"task {use} options", rule, dict(options))) from None
