"""The journal: every event of a sweep as one fsynced JSON line, from which all other records can be rebuilt."""

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Literal, Self, TypeAlias

from paretta.dashboards.journal.event_schema import ANNOTATED_SCHEMA, EXTENDED_SCHEMA, SCHEMA_VERSION, parse_event
from paretta.dashboards.journal.home_names import JOURNAL_FILE
from paretta.search_spaces.bounded_files import LARGEST_FILE
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.errors import DamagedRecord, Problem, WrongInput, first_line
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.results.trial import Trial

APPEND_LOCK: Final = ".journal.lock"
_BLOCK: Final = 1 << 16  # bytes read at a time from the end of a journal
_PROBES_S: Final = 0.5  # how long to wait for callers of `is_written`, which hold the lock for a moment
SweepEnding: TypeAlias = Literal["done", "stopped", "failed"]


class Journal:
    """Appends events to a sweep's journal; an event is on disk when the call that returns it is done.

    A call that raises `OSError`, such as on a full disk, has written nothing. Only one process at a time can run a
    sweep and so open its journal; beside it, `annotate` adds single lines. A line that a crash cut short is dropped
    when the journal is opened again.
    """

    def __init__(self, folder: Path) -> None:
        """Open the journal in `folder` for appending, and create it if there is none.

        Raises `WrongInput` if another process has it open; its lock is released when that process ends.
        """
        path = folder / JOURNAL_FILE
        self._file = path.open("ab", buffering=0)
        if not _locked(self._file):
            self._file.close()
            raise written_elsewhere(folder)
        self._folder = folder
        with _appending(folder):
            _drop_torn_line(path)

    def sweep(
        self,
        *,
        name: str,
        config: Document,
        objectives: tuple[Objective, ...],
        facts: Document,
        lessons: Document | None = None,
    ) -> Document:
        """Record the start: the resolved sweep document, the objectives, and facts such as digests and versions.

        `lessons` are what the search learns from earlier sweeps, if it does; a resumed one must have the same.
        """
        goals: Json = [{"meter": o.meter, "goal": o.goal, "unit": o.unit} for o in objectives]
        learned: dict[str, Json] = {} if lessons is None else {"lessons": lessons}
        opening: dict[str, Json] = {"name": name, "config": config, "objectives": goals, "facts": facts}
        return self._append("sweep", **opening, **learned, schema=SCHEMA_VERSION)

    def resumed(self, facts: Document) -> Document:
        """Record that the sweep was resumed, and the facts that have changed since its start, such as versions."""
        return self._append("resumed", facts=facts)

    def extended(self, trials: int) -> Document:
        """Record that the search goes on up to `trials` trials in all; the front is frozen again after it."""
        return self._append("extended", trials=trials, schema=EXTENDED_SCHEMA)

    def trial(self, trial: Trial) -> Document:
        """Record the current state of a trial; the last event of a uid is the valid one."""
        return self._append("trial", trial=trial.to_document())

    def progress(self, uid: str, message: Document) -> Document:
        """Record the progress of a running trial: its stage, epoch and loss."""
        return self._append("progress", uid=uid, message=message)

    def front(self, uids: tuple[str, ...]) -> Document:
        """Record that the front is frozen: from now on its members have test readings."""
        return self._append("front", members=list(uids))

    def end(self, status: SweepEnding, reason: str | None = None) -> Document:
        """Record the end; a resumed sweep continues with its next event."""
        return self._append("end", status=status, reason=reason)

    def _append(self, event: str, **fields: Json) -> Document:
        entry: Document = {"event": event, "time": time.time(), **fields}
        with _appending(self._folder):
            _write(self._file, json.dumps(entry, allow_nan=False).encode() + b"\n")
        return entry

    def __enter__(self) -> Self:
        """Use as a context manager: closes the file at the end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self._file.close()


def annotate(folder: Path, uid: str | None, note: str | None, tags: Mapping[str, str | None]) -> None:
    """Record a user's note or tags for a trial, or for the sweep if `uid` is None, even while another process runs it.

    Args:
        folder: of the sweep; its journal exists and has the trial.
        uid: of the trial.
        note: replaces the former one; an empty one removes it, None keeps it.
        tags: values by key; None removes a tag.
    """
    entry: Document = {"event": "annotated", "time": time.time(), "uid": uid, "note": note, "tags": dict(tags)}
    line = json.dumps({**entry, "schema": ANNOTATED_SCHEMA}, allow_nan=False).encode() + b"\n"
    path = folder / JOURNAL_FILE
    with _appending(folder), path.open("ab", buffering=0) as file:
        _drop_torn_line(path)  # no process is writing now, so a torn line is that of one that crashed
        _write(file, line)


@contextmanager
def _appending(folder: Path) -> Iterator[None]:
    """Hold the lock under which lines are appended, for moments only: a running sweep holds the journal's own."""
    with (folder / APPEND_LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(file: FileIO, line: bytes) -> None:
    """Append the whole line or nothing: part of a line, as on a full disk, would corrupt the next one."""
    size = os.fstat(file.fileno()).st_size
    try:
        while line:
            line = line[file.write(line) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(size)
        raise


def _locked(file: FileIO) -> bool:
    """Try to take the writer's lock, waiting out callers of `is_written`; return whether it was taken."""
    until = time.monotonic() + _PROBES_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(_PROBES_S / 50)
        else:
            return True


def written_elsewhere(folder: Path) -> WrongInput:
    """Return the error for a sweep in `folder` that another process is running."""
    hint = "wait for it, or stop it first"
    return WrongInput(Problem(str(folder), "another process is running this sweep", hint=hint))


def _drop_torn_line(path: Path) -> None:
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = file.seek(max(0, end - _BLOCK))
            if (newline := file.read(end - start).rfind(b"\n")) >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)


def events(folder: Path, start: int = 0) -> Iterator[tuple[Document, int]]:
    """Yield each event from byte `start` on with the position after it; a line still being written is left out.

    Raises `DamagedRecord` with file and line if a line is not a valid event.
    """
    with _opened(folder / JOURNAL_FILE) as file:
        file.seek(start)
        while line := file.readline(LARGEST_FILE):
            if not line.endswith(b"\n"):
                if len(line) == LARGEST_FILE:
                    raise damaged_at(folder, start, ValueError(f"a line of {LARGEST_FILE} bytes or more"))
                return
            try:
                event = parse_event(line)
            except ValueError as error:
                raise damaged_at(folder, start, error) from None
            start += len(line)
            yield event, start


def _opened(path: Path) -> BinaryIO:
    """Open a journal for reading; a pipe, on which a reader would wait without end, is damaged."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115 - returned open
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise DamagedRecord(f"{path}: this sweep's record is damaged: it is not a regular file")
    return file


def damaged_at(folder: Path, position: int, error: Exception) -> DamagedRecord:
    """Return the error for the damaged line at byte `position` of a journal."""
    path = folder / JOURNAL_FILE
    with path.open("rb") as file:
        number, left = 1, position
        while left and (block := file.read(min(left, 2**20))):
            number, left = number + block.count(b"\n"), left - len(block)
    return DamagedRecord(f"{path}:{number}: this sweep's record is damaged: {first_line(error)}")
