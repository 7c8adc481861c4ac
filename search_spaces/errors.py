"""The exception tree: every message is written for the person who can fix the cause.

ParettaError
├── WrongInput        the user's input is invalid; nothing was computed or written (exit code 2)
├── TrialFailed       one trial ended without an artifact; the sweep continues
├── DamagedArtifact   a delivered folder does not match its manifest
├── DamagedRecord     a line of a sweep's journal is not a valid event
└── StorageError      the operating system refuses, such as on a full disk or at an unreadable file; an `OSError` too

Code inside raises and handles `OSError` as Python does; what callers from Python use gives them a `StorageError` (see
`in_error_tree`). The command line prints either as one line and exits with the code of a failure.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from traceback import format_exception
from typing import Final, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

_MAX_SHOWN: Final = 200  # characters of a value in a message
_MAX_LINES: Final = 20  # problems in a message
_MOST_LISTED: Final = 40  # known names in a message


class ParettaError(Exception):
    """Base class of all errors that paretta raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem in an input: its place, the rule that is broken, the value found and how to fix it."""

    where: str
    rule: str
    value: object = None
    hint: str = ""

    def __str__(self) -> str:
        """Render as one line: ``where: rule; got value; hint``."""
        return f"{self.where}: {self.message()}"

    def message(self) -> str:
        """Render without the place: ``rule; got value; hint``."""
        got = "" if self.value is None else f"; got {_shortened(repr(self.value))}"
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.rule}{got}{hint}"


def _shortened(text: str) -> str:
    """Leave out the middle of a long text, such as of a list with thousands of values."""
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 20]}...{text[-17:]}"


class WrongInput(ParettaError):
    """The input is invalid. All problems found are reported together.

    >>> raise WrongInput(Problem("sweep.yaml:4 space[0].sparsity", "must be below 1", 1.2, "use a share"))
    Traceback (most recent call last):
    paretta.search_spaces.errors.WrongInput: sweep.yaml:4 space[0].sparsity: must be below 1; got 1.2; use a share
    """

    def __init__(self, *problems: Problem) -> None:
        """Store the problems; the message lists one per line, the first `_MAX_LINES` of them."""
        self.problems: tuple[Problem, ...] = problems
        more = [f"and {len(problems) - _MAX_LINES} more problems"] if len(problems) > _MAX_LINES else []
        super().__init__("\n".join([*map(str, problems[:_MAX_LINES]), *more]))

    def __reduce__(self) -> tuple[type["WrongInput"], tuple[Problem, ...]]:
        """Pickle the problems, so that the error crosses process boundaries intact."""
        return type(self), self.problems


class TrialFailed(ParettaError):
    """A trial ended without an artifact.

    Args:
        reason: one short line, such as ``diverged: loss is nan at epoch 2``.
        detail: what helps to debug it, such as a traceback.
        by_input: whether the user's data or code is the cause, as it is of `WrongInput`.
    """

    def __init__(self, reason: str, detail: str = "", by_input: bool = False) -> None:
        """Store the fields separately; the message is the reason."""
        self.reason = reason
        self.detail = detail
        self.by_input = by_input
        super().__init__(reason)

    @classmethod
    def of(cls, error: WrongInput) -> "TrialFailed":
        """Return the failure of a trial by wrong input: its reason in one line, its detail the cause's traceback."""
        if error.__cause__ is None:
            return cls(str(error), by_input=True)
        reason = "; ".join(f"{problem.where}: {problem.rule}" for problem in error.problems)
        return cls(reason, "".join(format_exception(error.__cause__)), by_input=True)

    def __reduce__(self) -> tuple[type["TrialFailed"], tuple[str, str, bool]]:
        """Pickle all fields, so that the error crosses process boundaries intact."""
        return type(self), (self.reason, self.detail, self.by_input)


MEMORY_MEND = "give a smaller batch_size, fewer or smaller workers at once (workers.lanes, per_trial), or more memory"
_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory|std::bad_alloc", re.IGNORECASE)


def out_of_memory(error: BaseException | None) -> str | None:
    """Describe `error` in one line if host or GPU memory ran out; return None for any other error.

    torch reports a lack of host memory as a plain RuntimeError, and a stage may have wrapped either in another error,
    so messages and causes are searched.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes."))[:39]
    'out of memory: tried to allocate 64 byt'
    """
    while error is not None:
        kind, message = type(error).__name__, str(error)
        if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or _NO_MEMORY.search(message):
            tried = re.search(r"tried to allocate [\d.]+ ?\w+", message, re.IGNORECASE)
            return f"out of memory: {tried[0].lower() if tried else kind}; {MEMORY_MEND}"
        error = error.__cause__ or error.__context__
    return None


_DISK_FULL = re.compile(r"no space left on device|disk quota exceeded|OutOfDiskError", re.IGNORECASE)


def disk_full(error: BaseException) -> str | None:
    """Describe `error` in one line if it or one of its causes is a full disk; return None for any other error.

    Libraries wrap this error in types of their own, some of them in another process, so the message decides.

    >>> disk_full(TrialFailed("export: [Errno 28] No space left on device: 'model.onnx'"))
    "the disk is full: export: [Errno 28] No space left on device: 'model.onnx'"
    >>> disk_full(TrialFailed("diverged")) is None
    True
    """
    cause: BaseException | None = error
    while cause is not None:
        for line in (*str(cause).splitlines(), *getattr(cause, "detail", "").splitlines()):
            if _DISK_FULL.search(line):
                return f"the disk is full: {line.strip()}"
        cause = cause.__cause__ or cause.__context__
    return None


class DamagedArtifact(ParettaError):
    """A delivered folder does not match its manifest: names the file, what was expected and what was found."""


class DamagedRecord(ParettaError):
    """A sweep's journal cannot be read: names the file, the line and the problem."""


class StorageError(ParettaError, OSError):
    """The operating system refuses what a call needs; `errno`, `strerror` and `filename` are those of its `OSError`.

    >>> raise StorageError(2, "No such file or directory", "sweep.yaml")
    Traceback (most recent call last):
    paretta.search_spaces.errors.StorageError: sweep.yaml: No such file or directory
    """

    def __str__(self) -> str:
        """Describe it in one line."""
        return disk_full(OSError(*self.args)) or os_problem(self)


def in_error_tree(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a public function raise `StorageError` for every `OSError`, except that of a pipe that its reader closed."""

    @wraps(function)
    def told(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except (ParettaError, BrokenPipeError):
            raise
        except OSError as error:
            named = () if error.filename is None else (error.filename,)
            raise StorageError(*error.args, *named) from error

    return told


def os_problem(error: OSError) -> str:
    """Describe in one line what the operating system refused, starting with the file if there is one.

    >>> os_problem(FileNotFoundError(2, "No such file or directory", "sweep.yaml"))
    'sweep.yaml: No such file or directory'
    """
    if error.filename is None or error.strerror is None:
        return error.strerror or first_line(error)
    return f"{error.filename}: {error.strerror}"


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message, or the name of its type if the message is empty.

    >>> first_line(OSError("no route\nto host")), first_line(TimeoutError())
    ('no route', 'TimeoutError')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


def did_you_mean(name: str, known: Iterable[str], noun: str) -> str:
    """Say that `name` is unknown, with the nearest known name and the list of all, or of the first 40.

    >>> did_you_mean("quantise", ["cluster", "distill", "prune", "quantize"], "stage")
    "no stage is called 'quantise'; did you mean 'quantize'? known: cluster, distill, prune, quantize"
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    listing = ", ".join(known[:_MOST_LISTED]) if known else "none"
    if len(known) > _MOST_LISTED:
        listing += f" and {len(known) - _MOST_LISTED} more"
    return f"no {noun} is called {_shortened(repr(name))};{hint} known: {listing}"
