"""Several Ray nodes on this machine: a folder, an address and a process group for each, and a token for all of them."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from paretta.orchestrator.cluster.connect import PACKAGE, QUIET

STARTED_S = 120.0  # for a node to respond on a loaded machine


@dataclass(frozen=True)
class Host:
    """Where a node runs: its address, and what stands before its commands, such as ``ip netns exec NAME``."""

    address: str = "127.0.0.1"
    enter: Sequence[str] = ()


@dataclass
class Node:
    host: Host
    folder: Path
    process: subprocess.Popen[bytes]

    def raylet(self) -> int:
        """Return the process id of its raylet, the one that every worker of the node hangs on."""
        (found,) = (
            pid for pid, line in commands() if "raylet/raylet" in line.split(" ")[0] and str(self.folder) in line
        )
        return found

    def workers(self, title: str) -> list[int]:
        """Return the processes of the node whose title holds `title`, such as ``ray::RayTrainWorker``."""
        raylet = self.raylet()
        return [pid for pid, line in commands() if title in line and parent(pid) == raylet]

    def kill(self) -> None:
        """End the raylet as a power cut would; what hangs on it follows."""
        os.kill(self.raylet(), signal.SIGKILL)

    def stop(self) -> None:
        """End all processes that `ray start` started on the node, and wait until they are gone."""
        left = {pid for pid, line in commands() if str(self.folder) in line or self.process.pid in ancestors(pid)}
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + STARTED_S
        while any(running(pid) for pid in left) and time.monotonic() < deadline:
            time.sleep(0.05)


@dataclass
class Nodes:
    """A cluster of `ray start` processes; the first is the head."""

    home: Path
    port: int
    environment: Mapping[str, str]
    nodes: list[Node] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{self.nodes[0].host.address}:{self.port}"

    def add(
        self,
        host: Host | None = None,
        *,
        cpus: int = 1,
        resources: str = "{}",
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Node:
        """Start a node; the first becomes the head. It may not have joined yet when this returns, see `wait`."""
        host = host or Host()
        folder = self.home / f"n{len(self.nodes)}"
        role = (
            [f"--address={self.address}"]
            if self.nodes
            else ["--head", f"--port={self.port}", "--include-dashboard=false"]
        )
        command = [*host.enter, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *role]
        command += [f"--node-ip-address={host.address}", f"--temp-dir={folder}", f"--num-cpus={cpus}", "--num-gpus=0"]
        command += [f"--resources={resources}", "--object-store-memory=100000000", "--min-worker-port=0"]
        command += ["--max-worker-port=0", "--disable-usage-stats", *options]
        with (self.home / f"log-{len(self.nodes)}").open("w") as log:
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self.environment, **(environment or {})},
                start_new_session=True,
            )
        self.nodes.append(Node(host, folder, process))
        return self.nodes[-1]

    def wait(self) -> None:
        """Wait until every added node reports that it has started."""
        deadline, logs = time.monotonic() + STARTED_S, [self.home / f"log-{i}" for i in range(len(self.nodes))]
        while not all("Ray runtime started" in log.read_text() for log in logs):
            ended = any(node.process.poll() is not None for node in self.nodes)
            if ended or time.monotonic() > deadline:
                raise AssertionError("the nodes did not start\n" + "\n".join(log.read_text() for log in logs))
            time.sleep(0.1)


@contextmanager
def ray_nodes() -> Iterator[Nodes]:
    """Give an empty cluster; all nodes that are added end with the block, their folders too."""
    home = Path(tempfile.mkdtemp(prefix="pa", dir="/tmp"))  # short enough for Ray's sockets below it
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    cluster = Nodes(home, free_port(), {**os.environ, **QUIET, **token, "PYTHONPATH": str(PACKAGE.parent)})
    try:
        yield cluster
    finally:
        for node in reversed(cluster.nodes):
            node.stop()
        shutil.rmtree(home, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def commands() -> Iterator[tuple[int, str]]:
    """Yield the processes of this machine with their command lines."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield int(entry.parent.name), entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile


def ancestors(pid: int) -> list[int]:
    """Return the processes that `pid` descends from, its parent first."""
    found: list[int] = []
    while pid := parent(pid):
        found.append(pid)
    return found


def parent(pid: int) -> int:
    state = stat(pid)
    return int(state[1]) if state else 0


def running(pid: int) -> bool:
    state = stat(pid)
    return bool(state) and state[0] not in "ZX"


def stat(pid: int) -> list[str]:
    """Return what the kernel says of a process, from its state on; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
