"""The journal: every event of a sweep as one fsynced JSON line, the source from which all records are rebuilt."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

from paretta.dashboards.journal.event_schema import SCHEMA_VERSION, parse_event
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.errors import DamagedRecord, Problem, WrongInput, first_line
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.results.trial import Trial

JOURNAL_FILE: Final = "journal.jsonl"
_PROBES_S: Final = 0.5  # how long others that only ask whether it is written may hold its lock, all together
SweepEnding: TypeAlias = Literal["done", "stopped", "failed"]


class Journal:
    """Appends events to a sweep's journal; an event is on the disk when the call returns it.

    A call that raises `OSError`, as on a full disk, has written nothing. One process writes a journal at a time. A line
    that a crash cut short is dropped when the journal is opened again.
    """

    def __init__(self, folder: Path) -> None:
        """Open `folder`'s journal for appending, made where there is none.

        Raises `WrongInput` while another process writes it; that right falls free with the process, however it ends.
        """
        path = folder / JOURNAL_FILE
        self._file = path.open("ab", buffering=0)
        if not _locked(self._file):
            self._file.close()
            raise written_elsewhere(folder)
        _drop_torn_line(path)

    def sweep(self, *, name: str, config: Document, objectives: tuple[Objective, ...], facts: Document) -> Document:
        """Open the record: the resolved sweep document, the objectives, and facts such as digests and versions."""
        goals: Json = [{"meter": o.meter, "goal": o.goal, "unit": o.unit} for o in objectives]
        return self._append("sweep", name=name, config=config, objectives=goals, facts=facts, schema=SCHEMA_VERSION)

    def resumed(self, facts: Document) -> Document:
        """Record that the sweep goes on, and what is different from its start, such as versions."""
        return self._append("resumed", facts=facts)

    def trial(self, trial: Trial) -> Document:
        """Record a trial as it stands now; the last record of a uid is the valid one."""
        return self._append("trial", trial=trial.to_document())

    def progress(self, uid: str, message: Document) -> Document:
        """Record how far a running trial is: its stage, epoch and loss."""
        return self._append("progress", uid=uid, message=message)

    def front(self, uids: tuple[str, ...]) -> Document:
        """Freeze the front: from here on its members carry test readings."""
        return self._append("front", members=list(uids))

    def end(self, status: SweepEnding, reason: str | None = None) -> Document:
        """Close the record; a resumed sweep opens it again by its next event."""
        return self._append("end", status=status, reason=reason)

    def _append(self, event: str, **fields: Json) -> Document:
        entry: Document = {"event": event, "time": time.time(), **fields}
        self._write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        return entry

    def _write(self, line: bytes) -> None:
        """Add a line, or nothing: where the disk is full, half a line would spoil the next one."""
        size = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            raise

    def __enter__(self) -> Self:
        """Use as a context manager: closes the file at the end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self._file.close()


def _locked(file: FileIO) -> bool:
    """Take the right to write, and say whether it was free; who asks by `is_written` holds it for a moment."""
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
    """Return the error that says that another process runs the sweep in `folder`."""
    mend = "wait for it, or stop it first"
    return WrongInput(Problem(str(folder), "another process is running this sweep", mend=mend))


def is_written(folder: Path) -> bool:
    """Tell whether a process runs the sweep in `folder`: one that was killed leaves its journal open and unlocked."""
    with (folder / JOURNAL_FILE).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _drop_torn_line(path: Path) -> None:
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def events(folder: Path, start: int = 0) -> Iterator[tuple[Document, int]]:
    """Yield each event from byte `start` on with the position behind it; a line still being written is left out.

    Raises `DamagedRecord` with file and line where one is not what a journal holds.
    """
    path = folder / JOURNAL_FILE
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                event = parse_event(line)
            except ValueError as error:
                raise damaged_at(folder, start, error) from None
            start += len(line)
            yield event, start


def damaged_at(folder: Path, position: int, error: Exception) -> DamagedRecord:
    """Return the error that says what is wrong with the line at byte `position` of a journal."""
    path = folder / JOURNAL_FILE
    with path.open("rb") as file:
        number = file.read(position).count(b"\n") + 1
    return DamagedRecord(f"{path}:{number}: this sweep's record is damaged: {first_line(error)}")
