"""The readings that an agent was asked for: taken one at a time, each in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from paretta.orchestrator.agent.protocol import ReadingRequest, ReadingState, SentModel
from paretta.orchestrator.agent.received_files import ReceivedFiles
from paretta.pipelines.artifact import MANIFEST, MODEL
from paretta.pipelines.measuring.probe_process import TIMEOUT_SECONDS, ProbeRequest, process_environment
from paretta.search_spaces.bounded_files import read_bounded
from paretta.search_spaces.errors import ParettaError

PROCESS: Final = "paretta.pipelines.measuring.device_process"
MOST_WAITING: Final = 64
_KEPT_S: Final = 3600.0  # how long the result of a reading is kept for its client
_FORGOTTEN_S: Final = 300.0  # without a question about it, after which a waiting reading is not begun
_SAID: Final = 2**12  # bytes of a process's last words


class Crowded(ParettaError):
    """There are too many readings."""


@dataclass(slots=True)
class _Reading:
    request: ReadingRequest
    state: ReadingState = field(default_factory=lambda: ReadingState(state="waiting"))
    asked: float = field(default_factory=time.monotonic)

    @property
    def is_over(self) -> bool:
        return self.state.state in ("done", "failed")


class ReadingQueue:
    """Takes the readings in the order in which they were asked for. It may be used by threads.

    Args:
        files: that requests name.
        folder: an empty one, for what a reading writes.
        say: called with each line to show to the user.
    """

    def __init__(self, files: ReceivedFiles, folder: Path, say: Callable[[str], object]) -> None:
        """Start the thread that takes the readings."""
        self._files, self._folder, self._say = files, folder, say
        self._changed = threading.Condition()
        self._readings: dict[str, _Reading] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._running = ""
        self._closed = False
        self._thread = threading.Thread(target=self._take_all, name="paretta-readings", daemon=True)
        self._thread.start()

    def ask(self, name: str, request: ReadingRequest) -> list[str]:
        """Add a reading, unless it is known; return the digests of files that are lacking, in which case it is not.

        Raises `Crowded` if too many wait.
        """
        with self._changed:
            self._forget()
            if name in self._readings:
                return []
            if sum(not reading.is_over for reading in self._readings.values()) >= MOST_WAITING:
                raise Crowded(f"{MOST_WAITING} readings wait here already")
            if lacking := self._files.take(request.digests):
                return lacking
            self._readings[name] = _Reading(request)
            self._changed.notify_all()
            return []

    def state(self, name: str, *, known: str = "", wait_s: float = 0.0) -> ReadingState | None:
        """Return how a reading stands once that is no longer `known`, at the latest after `wait_s`; None if unknown."""
        deadline = time.monotonic() + wait_s
        with self._changed:
            while True:
                reading = self._readings.get(name)
                if reading is None:
                    return None
                reading.asked = time.monotonic()
                left = deadline - reading.asked
                if reading.is_over or reading.state.state != known or left <= 0 or self._closed:
                    before = [other for other in self._before(name) if not other.is_over]
                    return reading.state.model_copy(update={"before": len(before)})
                self._changed.wait(left)

    def withdraw(self, name: str) -> None:
        """Forget a reading; one that runs is ended."""
        with self._changed:
            reading = self._readings.pop(name, None)
            if reading is None:
                return
            if name == self._running:
                self._end_process()
            elif not reading.is_over:
                self._files.back(reading.request.digests)
            self._changed.notify_all()

    def close(self) -> None:
        """End the reading that runs, and the thread."""
        with self._changed:
            self._closed = True
            self._end_process()
            self._changed.notify_all()
        self._thread.join()

    def _before(self, name: str) -> list[_Reading]:
        names = list(self._readings)
        return [self._readings[other] for other in names[: names.index(name)]]

    def _forget(self) -> None:
        """Drop results that nobody fetched."""
        old = time.monotonic() - _KEPT_S
        for name in [name for name, reading in self._readings.items() if reading.is_over and reading.asked < old]:
            del self._readings[name]

    def _take_all(self) -> None:
        while (found := self._next()) is not None:
            name, reading = found
            begun = time.monotonic()
            ended = self._taken(name, reading.request)
            with self._changed:
                self._running = ""
                self._files.back(reading.request.digests)
                withdrawn = name not in self._readings
                reading.state = ended
                self._changed.notify_all()
            if not self._closed:
                meters = ", ".join(str(meter["kind"]) for meter in reading.request.meters)
                models = len(reading.request.models)
                how = "withdrawn" if withdrawn else ended.failure or "done"
                spent = f"{time.monotonic() - begun:.1f} s"
                self._say(f"{meters} of {models} model{'s' if models > 1 else ''}: {how}, {spent}")

    def _next(self) -> tuple[str, _Reading] | None:
        """Wait for a reading, and return it as the running one; None once this is closed."""
        with self._changed:
            while not self._closed:
                late = time.monotonic() - _FORGOTTEN_S
                for name, reading in list(self._readings.items()):
                    if reading.state.state != "waiting":
                        continue
                    if reading.asked < late:
                        del self._readings[name]
                        self._files.back(reading.request.digests)
                        continue
                    reading.state, self._running = ReadingState(state="running"), name
                    self._changed.notify_all()
                    return name, reading
                self._changed.wait()
            return None

    def _taken(self, name: str, request: ReadingRequest) -> ReadingState:
        try:
            with TemporaryDirectory(dir=self._folder) as scratch:
                return self._read(name, request, Path(scratch))
        except OSError as error:
            return ReadingState(state="failed", failure=f"the agent cannot measure: {error.strerror}")

    def _read(self, name: str, request: ReadingRequest, scratch: Path) -> ReadingState:
        models = [*request.models, request.baseline]
        folders = [self._laid_out(model, scratch / str(place)) for place, model in enumerate(models)]
        probe = ProbeRequest(
            artifact=folders[0],
            beside=tuple(folders[1:-1]),
            baseline=folders[-1],
            inputs=self._files.path(request.inputs),
            meters=request.meters,
            readings=scratch / "readings.json",
            facts=request.facts,
            expected=tuple(self._files.path(model.answers) for model in models),
        )
        (scratch / "request.json").write_text(probe.model_dump_json(), encoding="utf-8")
        if failure := self._run(name, scratch / "request.json", scratch):
            return ReadingState(state="failed", failure=failure)
        return ReadingState(state="done", readings=json.loads(read_bounded(probe.readings)))

    def _laid_out(self, model: SentModel, folder: Path) -> Path:
        """Give a model's files the names that they have in a delivered folder."""
        folder.mkdir()
        os.link(self._files.path(model.model), folder / MODEL)
        if model.manifest is not None:
            os.link(self._files.path(model.manifest), folder / MANIFEST)
        return folder

    def _run(self, name: str, request: Path, scratch: Path) -> str:
        """Run a reading's process to its end; return why it failed, in one line, or an empty string."""
        words = scratch / "words.txt"
        with words.open("wb") as said, self._changed:
            if self._closed or name not in self._readings:
                return "nobody waits for it any more"
            process = self._process = start_process("read", request, said.fileno(), scratch)
        try:
            code = process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return f"no reading within {TIMEOUT_SECONDS:g} s"
        finally:
            with self._changed:
                self._end_process()
        return "" if code == 0 else last_words(words, code)

    def _end_process(self) -> None:
        if self._process is not None:
            end_group(self._process)
            self._process = None


def start_process(command: str, path: Path, words: int, folder: Path) -> "subprocess.Popen[bytes]":
    """Start one of the `paretta.pipelines.measuring.device_process`, as a group of its own."""
    line = [sys.executable, "-P", "-m", PROCESS, command, str(path)]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        line,
        env=process_environment(),
        cwd=folder,
        stdin=subprocess.PIPE,  # closes with this process
        stdout=words,
        stderr=words,
        start_new_session=True,
    )


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and what it started, and wait for its end."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def last_words(file: Path, code: int) -> str:
    """Return the last line that a process wrote, or how it ended."""
    with file.open("rb") as opened:
        opened.seek(max(file.stat().st_size - _SAID, 0))
        lines: Sequence[str] = opened.read().decode(errors="replace").strip().splitlines()
    if code < 0:
        why = ": the memory may be full" if -code == signal.SIGKILL else ""
        return f"signal {-code} ended the measuring process{why}"
    return lines[-1][:500] if lines else f"the measuring process ended with code {code}"
