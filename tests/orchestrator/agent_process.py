"""A device's agent as a real process, which finds no package beside those of deploy/runtime.txt."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from runtime_only import hiding_environment

from paretta.orchestrator.agent.agent_client import AgentAddress

TOKEN = "a-token-for-the-tests"


@dataclass(frozen=True)
class AgentProcess:
    """A running agent.

    Args:
        url: its address.
        process: the agent's own.
        scratch: the folder in which it makes its temporary folder.
        said: the lines that it has printed so far.
    """

    url: str
    process: "subprocess.Popen[str]"
    scratch: Path
    said: list[str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def address(self, *, patience_s: float = 20.0, token: str = TOKEN) -> AgentAddress:
        return AgentAddress(self.url, token, patience_s)

    def await_reading(self) -> None:
        """Wait until it measures."""
        until(lambda: bool(children(self.process.pid)), "the agent measures nothing")

    def await_line(self, text: str) -> str:
        """Wait for a line with `text`, and return it."""
        until(lambda: any(text in line for line in self.said), f"the agent does not say {text!r}: {self.said}")
        return next(line for line in self.said if text in line)


def until(holds: Callable[[], bool], otherwise: str, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if folder.name.isdecimal() and fields[1] == str(pid) and fields[0] != "Z":
            found.append(int(folder.name))
    return found


@contextmanager
def running_agent(
    folder: Path,
    *options: str,
    port: int = 0,
    host: str = "127.0.0.1",
    enter: Sequence[str] = (),
    more: Mapping[str, str] | None = None,
) -> Iterator[AgentProcess]:
    """Run an agent while the context is open; `enter` is a command that runs it elsewhere, as in a namespace."""
    (folder / "temporary").mkdir(parents=True, exist_ok=True)
    environment = {**hiding_environment(folder), "TMPDIR": str(folder / "temporary"), "PARETTA_AGENT_TOKEN": TOKEN}
    command = [*enter, sys.executable, "-m", "paretta", "agent", "--listen", f"{host}:{port}", *options]
    with subprocess.Popen(
        command,
        env={**environment, **(more or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        said: list[str] = []
        reader = Thread(target=_follow, args=(process, said))
        reader.start()
        try:
            until(lambda: process.poll() is not None or any("Ctrl-C" in line for line in said), f"no start: {said}")
            assert process.poll() is None, said
            url = next(line for line in said if line.startswith("http://"))
            yield AgentProcess(url, process, folder / "temporary", said)
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
            reader.join()


def _follow(process: "subprocess.Popen[str]", said: list[str]) -> None:
    assert process.stdout is not None
    for line in iter(process.stdout.readline, ""):
        said.append(line.rstrip("\n"))  # noqa: PERF401 - each at once
