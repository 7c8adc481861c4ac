"""The measuring actor, called without Ray: which readings it caches, and what it measures together."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from paretta.orchestrator.agent.agent_client import AgentAddress
from paretta.orchestrator.trials import measuring_actor
from paretta.pipelines.artifact import write
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.tasks.digits import make
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import TrialFailed
from paretta.search_spaces.space.plan import Plan

TASK = make(width=8, hidden=8)
LATENCY: Document = {"kind": "latency", "budget_seconds": 0.2}


def actor(folder: Path, *objectives: Document, agent: AgentAddress | None = None) -> Any:
    """Return an actor whose sweep has its files in `folder`."""
    task: Any = SimpleNamespace(load=lambda: TASK)
    slot: Any = SimpleNamespace(taken=nullcontext)
    files: Any = SimpleNamespace(bring=lambda name: folder / name)
    return measuring_actor._MeasuringActor(task, list(objectives), slot, files, agent)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sweep")
    for name, width in (("baseline", 48), ("small", 4)):
        torch.manual_seed(0)
        content = to_bytes(make(width=width, hidden=8).new_model(), TASK.example_input)
        write(made / name, content, plan=Plan(()), seed=0, data_digest="")
    return made


def test_the_baseline_s_shortest_time_is_known_to_later_readings(folder: Path) -> None:
    measuring = actor(folder, LATENCY)
    first = measuring.read("small", "baseline", "validation", False, {})["latency"]
    assert measuring.known == {"baseline_seconds": first.details["baseline_seconds"]}
    measuring.known["baseline_seconds"] /= 10.0
    later = measuring.read("small", "baseline", "validation", False, {})["latency"]
    assert float(later.details["slowness"]) > 5.0
    assert later.details["contended"] is True
    assert later.low < first.value < later.high
    assert measuring.known["baseline_seconds"] == pytest.approx(first.details["baseline_seconds"] / 10.0)


def test_only_what_compares_times_is_read_together(folder: Path) -> None:
    found = actor(folder, {"kind": "size"}, LATENCY).read_together(["baseline", "small"], "baseline")
    assert [list(readings) for readings in found] == [["latency"], ["latency"]]
    itself, small = (readings["latency"] for readings in found)
    assert small.value < itself.value
    assert (itself.details["beside"], small.details["beside"]) == (1, 1)
    assert actor(folder, {"kind": "size"}).read_together(["small"], "baseline") == []


def test_nothing_of_a_lost_agent_is_remembered(folder: Path) -> None:
    lost = AgentAddress("http://127.0.0.1:9", "a-token-for-the-tests", 0.0)
    measuring = actor(folder, {"kind": "size"}, LATENCY, agent=lost)
    away = "the agent at http://127.0.0.1:9 does not answer: Connection refused; waited for it for 0 s"
    found = measuring.read("small", "baseline", "validation", False, {})
    assert found["size"].value == (folder / "small" / "model.onnx").stat().st_size
    assert (found["latency"].value, found["latency"].reason) == (None, away)
    with pytest.raises(TrialFailed) as caught:
        measuring.read_together(["baseline", "small"], "baseline")
    assert caught.value.reason == f"measure: {away}"
    seen = measuring.foresee(Plan(()).to_document(), "baseline", ["size", "latency"])
    assert seen["latency"].reason == away
    assert seen["size"].value is not None
    assert (measuring.foreseen, measuring.timed, measuring.known) == ({}, {}, {})
