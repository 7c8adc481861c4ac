"""The exception tree: every message is written for the person who can mend the cause.

ParettaError
├── WrongInput        what the user gave cannot be used; nothing was computed or written (exit code 2)
├── TrialFailed       one trial ended without an artifact; the sweep goes on
├── DamagedArtifact   a delivered folder is not what its manifest says
└── DamagedRecord     a line of a sweep's journal is not what a journal holds

Beside it stands `OSError`, for what the machine refuses: a full disk, a file that may not be read. The command line
tells it in one line, see `os_problem`, with the exit code of a failure.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


class ParettaError(Exception):
    """Root of all errors that paretta raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input: where it stands, the value found, the rule it breaks and the mend."""

    where: str
    rule: str
    value: object = None
    mend: str = ""

    def __str__(self) -> str:
        """Render as one line: ``where: rule; got value; mend``."""
        return f"{self.where}: {self.told()}"

    def told(self) -> str:
        """Render without the place: ``rule; got value; mend``."""
        got = "" if self.value is None else f"; got {self.value!r}"
        mend = f"; {self.mend}" if self.mend else ""
        return f"{self.rule}{got}{mend}"


class WrongInput(ParettaError):
    """The input cannot be used. All problems found are reported together.

    >>> raise WrongInput(Problem("sweep.yaml:4 space[0].sparsity", "must be below 1", 1.2, "use a share"))
    Traceback (most recent call last):
    paretta.search_spaces.errors.WrongInput: sweep.yaml:4 space[0].sparsity: must be below 1; got 1.2; use a share
    """

    def __init__(self, *problems: Problem) -> None:
        """Keep the problems; the message lists each on a line of its own."""
        self.problems: tuple[Problem, ...] = problems
        super().__init__("\n".join(map(str, problems)))


class TrialFailed(ParettaError):
    """A trial ended without an artifact.

    Args:
        reason: one short line, such as ``diverged: loss is nan at epoch 2``.
        detail: what a person debugging it wants to see, such as a traceback.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        """Keep the reason and the detail apart; the message is the reason."""
        self.reason = reason
        self.detail = detail
        super().__init__(reason)

    def __reduce__(self) -> tuple[type["TrialFailed"], tuple[str, str]]:
        """Cross process borders with both fields."""
        return type(self), (self.reason, self.detail)


MEMORY_MEND = "give a smaller batch_size, fewer or smaller workers at once (workers.lanes, per_trial), or more memory"
_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory|std::bad_alloc", re.IGNORECASE)


def out_of_memory(error: BaseException | None) -> str | None:
    """Say in one line that `error` comes of a lack of memory, of the machine or of a GPU; None for any other.

    torch tells of the first by a plain RuntimeError, and a stage may have made another error of either.

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
    """Say in one line that `error`, or what caused it, comes of a full disk; None for any other.

    Libraries make errors of their own of it, some of another process, so the words decide.

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
    """A delivered folder is not what its manifest says: names the file, what was expected and what was found."""


class DamagedRecord(ParettaError):
    """A sweep's journal cannot be read: names the file, the line and what is wrong with it."""


def os_problem(error: OSError) -> str:
    """Say in one line what the machine refused, the file first where there is one.

    >>> os_problem(FileNotFoundError(2, "No such file or directory", "sweep.yaml"))
    'sweep.yaml: No such file or directory'
    """
    if error.filename is None or error.strerror is None:
        return error.strerror or first_line(error)
    return f"{error.filename}: {error.strerror}"


def first_line(error: BaseException) -> str:
    r"""Return the first line of what an error says, or its type's name where it says nothing.

    >>> first_line(OSError("no route\nto host")), first_line(TimeoutError())
    ('no route', 'TimeoutError')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


def did_you_mean(name: str, known: Iterable[str], noun: str) -> str:
    """Say that `name` is unknown, with the nearest known names and the whole list.

    >>> did_you_mean("quantise", ["cluster", "distill", "prune", "quantize"], "stage")
    "no stage is called 'quantise'; did you mean 'quantize'? known: cluster, distill, prune, quantize"
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    listing = ", ".join(known) if known else "none"
    return f"no {noun} is called {name!r};{hint} known: {listing}"
