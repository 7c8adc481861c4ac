"""An agent on a host of its own, whose cable is pulled in the middle of a reading."""

import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest
import torch
from agent_process import AgentProcess, running_agent, until

from paretta.orchestrator.agent.agent_client import AgentClient
from paretta.pipelines.artifact import write
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.measuring.measure import measure
from paretta.pipelines.meter import meter_of
from paretta.pipelines.tasks.digits import make
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan

TASK = make(width=8, hidden=8)
HOST = "10.213.91.2"


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@dataclass(frozen=True)
class Cable:
    """The end of a cable on this host; the other one is in the namespace `name`."""

    name: str
    end: str

    def pull(self) -> None:
        run("ip", "link", "set", self.end, "down")

    def plug_in(self) -> None:
        run("ip", "link", "set", self.end, "up")


@pytest.fixture
def cable() -> Iterator[Cable]:
    """A network namespace with an address of its own, a host name of its own, and a cable to this host."""
    mark = secrets.token_hex(3)
    name, ends = f"paretta-{mark}", [f"pv{mark}{place}" for place in (0, 1)]
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `ip` here, which makes network namespaces")
    if made.returncode:
        pytest.skip(f"network namespaces are not permitted here: {made.stderr.strip()}")
    try:
        run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", name)
        run("ip", "address", "add", "10.213.91.1/24", "dev", ends[0])
        run("ip", "link", "set", ends[0], "up")
        run("ip", "-n", name, "address", "add", f"{HOST}/24", "dev", ends[1])
        run("ip", "-n", name, "link", "set", ends[1], "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield Cable(name, ends[0])
    finally:
        subprocess.run(["ip", "link", "delete", ends[0]], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.fixture
def agent(cable: Cable, tmp_path: Path) -> Iterator[AgentProcess]:
    inside = ["ip", "netns", "exec", cable.name, "unshare", "--uts", "sh", "-c", 'hostname pi5 && exec "$@"', "sh"]
    with running_agent(tmp_path / "agent", host=HOST, enter=inside) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, width in (("baseline", 48), ("small", 4)):
        torch.manual_seed(0)
        content = to_bytes(make(width=width, hidden=8).new_model(), TASK.example_input)
        write(tmp_path / name, content, plan=Plan(()), seed=0, data_digest="")
    return tmp_path


class _Reading:
    """A reading in a thread of its own."""

    def __init__(self, agent: AgentProcess, folder: Path, *, patience_s: float, budget_s: float) -> None:
        self.client = AgentClient(agent.address(patience_s=patience_s), answer_s=1.0, poll_s=1)
        self.meter = meter_of({"kind": "latency", "budget_seconds": budget_s}, {})
        self.found: list[Reading] = []
        self.folder = folder
        self.thread = Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        small, baseline = self.folder / "small", self.folder / "baseline"
        meters = [self.meter]
        readings = measure(small, baseline, TASK, split="validation", meters=meters, elsewhere=self.client)
        self.found.append(readings["latency"])


def test_a_cable_pulled_for_a_while_costs_no_reading(cable: Cable, agent: AgentProcess, folder: Path) -> None:
    reading = _Reading(agent, folder, patience_s=60.0, budget_s=4.0)
    agent.await_reading()
    cable.pull()
    until(lambda: reading.client.waits != "", "nobody notices")
    assert reading.client.waits.startswith(f"for the agent at http://{HOST}:{agent.port}, for up to 60 s: ")
    agent.await_line("latency of 1 model: done")  # it measures on meanwhile
    cable.plug_in()
    reading.thread.join()
    (found,) = reading.found
    assert found.value is not None
    assert 0 < found.value < 1
    assert found.details["machine"] == "pi5"
    assert len([line for line in agent.said if "latency of 1 model" in line]) == 1  # nothing was measured twice


def test_a_cable_pulled_for_good_leaves_the_reason(cable: Cable, agent: AgentProcess, folder: Path) -> None:
    reading = _Reading(agent, folder, patience_s=3.0, budget_s=60.0)
    agent.await_reading()
    cable.pull()
    began = time.monotonic()
    reading.thread.join()
    assert time.monotonic() - began >= 3.0
    (found,) = reading.found
    assert found.value is None
    assert str(found).startswith(f"not measured: the agent at http://{HOST}:{agent.port} does not answer: ")
    assert str(found).endswith("; waited for it for 3 s")
