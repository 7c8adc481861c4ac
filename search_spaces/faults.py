"""Reporting exceptions of user code in one line, with the user's file and line."""

import re
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from paretta.search_spaces.errors import ParettaError, Problem, WrongInput

TRACEBACK_VARIABLE: Final = "PARETTA_TRACEBACK"

_MAX_LENGTH: Final = 400  # characters of a message
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_ROOTS: Final = (Path(__file__).parents[1], Path(__file__).resolve().parents[1])
_OURS: Final = tuple(
    str(root / room) for root in _ROOTS for room in ("dashboards", "orchestrator", "pipelines", "search_spaces")
)
# code that is not the user's: the standard library, installed packages, and ours
_FOREIGN: Final = (*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")), *_OURS, "<")


class blaming:  # noqa: N801 - reads as a verb in a with statement
    """Convert exceptions raised inside the block into `WrongInput`: one line with the user's file and line.

    This includes exceptions that are not `Exception`, such as SystemExit. KeyboardInterrupt and our own errors, which
    are descriptive already, pass unchanged. The original exception is the cause.

    Args:
        where: place of the code, such as ``task.train[37]``; a function is called only if something fails.
        doing: what is done with it, such as ``reading it``.
    """

    def __init__(self, where: str | Callable[[], str], doing: str) -> None:
        self.where, self.doing = where, doing

    def __enter__(self) -> "blaming":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        if error is None or isinstance(error, KeyboardInterrupt | GeneratorExit | ParettaError):
            return
        where = self.where if isinstance(self.where, str) else self.where()
        hint = f"set {TRACEBACK_VARIABLE}=1 to see the traceback"
        raise WrongInput(Problem(where, f"{self.doing} failed: {fault_of(error)}", hint=hint)) from error


def fault_of(error: BaseException) -> str:
    """Return an error's type, the first line of its message, and the innermost line of user code in its traceback.

    >>> fault_of(ValueError("no"))
    'ValueError: no'
    """
    causes = list(_causes(error))
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (at {error.filename}:{error.lineno})"
    # the exporter wraps the original error in its own advice
    telling = causes[-1] if type(error).__module__.startswith("torch.onnx") else error
    text = _COLOURS.sub("", "".join(traceback.format_exception_only(telling))).strip()
    name = type(telling).__name__
    message = name + text.partition(name)[2] if name in text else text
    lines = [line for cause in causes for line in _lines(cause.__traceback__)]
    own = [line for line in lines if not _is_foreign(line)]
    last = [line for line in _lines(error.__traceback__) if not line.startswith(("<", *_OURS))]
    place = next(iter(own[-1:] or last[-1:]), None)
    return _shortened(message) + (f" (at {place})" if place else "")


def _is_foreign(line: str) -> bool:
    """Return whether code is not the user's; packages may also lie in a folder per user, or in another environment."""
    return line.startswith(_FOREIGN) or not {"site-packages", "dist-packages"}.isdisjoint(Path(line).parts)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its chain of causes and contexts."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        yield current
        seen.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _lines(trace: TracebackType | None) -> Iterator[str]:
    for frame, number in traceback.walk_tb(trace):
        yield f"{frame.f_code.co_filename}:{number}"


def _shortened(text: str) -> str:
    line = (text.splitlines() or [""])[0]
    return line if len(line) <= _MAX_LENGTH else f"{line[:_MAX_LENGTH]}..."
