"""A real sweep whose latencies an agent reads, which is killed in the middle: it comes back, or stays away."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agent_process import TOKEN, AgentProcess, children, running_agent, until

from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.monitor.status import status_document, status_lines
from paretta.orchestrator.storage.sweep_files import SweepFiles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

SWEEP = """
task: {{use: digits, options: {{width: 4, hidden: 8}}}}
baseline: [{{kind: train, epochs: 1}}]
space: [{{kind: quantize, bits: {{choice: [8, 4]}}}}]
objectives: [size, {{kind: latency, budget_seconds: {budget}}}, accuracy]
search: {{sampler: grid, trials: 2, good_plans: false}}
workers: {{lanes: 1}}
measuring: {{agent: "{url}", agent_token_file: agent.token, agent_patience_s: {patience}}}
"""


def paretta(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    environment.pop("PARETTA_AGENT_TOKEN", None)
    command = [sys.executable, "-m", "paretta", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def launched(
    folder: Path, agent: AgentProcess, *, patience: float, budget: float, blow: Callable[[], None]
) -> tuple[int, str]:
    """Launch a sweep, and strike once its baseline has ended and a candidate is measured."""
    url = agent.url
    (folder / "agent.token").write_text(f"{TOKEN}\n")
    (folder / "agent.token").chmod(0o600)
    (folder / "edge.yaml").write_text(SWEEP.format(url=url, patience=patience, budget=budget))
    with paretta(folder, "launch", "edge.yaml") as driver:
        try:
            until(
                lambda: driver.poll() is not None or measures_a_candidate(agent, folder), "nothing is measured", 200.0
            )
            if driver.poll() is None:
                blow()
            said, _ = driver.communicate(timeout=240)
        finally:
            driver.kill()
    return driver.returncode, said


def record_of(folder: Path) -> SweepRecord:
    return SweepRecord.read(folder / "sweeps" / "edge")


def ended(folder: Path, uid: str) -> bool:
    home = folder / "sweeps" / "edge"
    if not (home / "journal.jsonl").exists():
        return False
    trial = SweepRecord.read(home).trials.get(uid)
    return trial is not None and trial.status == "complete"


def measures_a_candidate(agent: AgentProcess, folder: Path) -> bool:
    return ended(folder, "baseline") and bool(children(agent.process.pid))


def test_every_latency_is_the_agent_s_though_it_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "user"
    folder.mkdir()
    more: list[Any] = []
    with running_agent(tmp_path / "first") as first:

        def blow() -> None:
            first.process.kill()
            first.process.wait()
            waiting = f"waits for the agent at {first.url}"
            until(lambda: any(waiting in line for line in status(folder)), f"{status(folder)}", 60.0)
            context = running_agent(tmp_path / "second", port=first.port)
            more.extend([context, context.__enter__()])

        try:
            code, said = launched(folder, first, patience=100, budget=2.0, blow=blow)
        finally:
            if more:
                more[0].__exit__(None, None, None)
    assert code == 0, said
    again: AgentProcess = more[1]
    assert [line for line in first.said if "latency of 1 model: done" in line][0:1] != []  # the baseline
    assert any("latency of 3 models: done" in line for line in again.said), again.said  # side by side at the end
    record = record_of(folder)
    assert {trial.status for trial in record.trials.values()} == {"complete"}
    assert len(record.trials) == 3
    for trial in record.trials.values():
        reading = trial.readings["latency"]
        assert reading.value is not None
        assert float(reading.details["answers_gap"]) <= 16 / 255
        assert reading.details["beside"] == 2
    assert list((tmp_path / "second" / "temporary").iterdir()) == []
    journal = (folder / "sweeps" / "edge" / "journal.jsonl").read_text()
    assert TOKEN not in journal
    assert TOKEN not in said


def test_a_sweep_ends_without_the_readings_of_an_agent_that_stays_away(tmp_path: Path) -> None:
    folder = tmp_path / "user"
    folder.mkdir()
    with running_agent(tmp_path / "agent") as agent:

        def blow() -> None:
            agent.process.kill()

        code, said = launched(folder, agent, patience=2, budget=2.0, blow=blow)
    assert code == 1, said
    record = record_of(folder)
    assert record.trials["baseline"].status == "complete"
    lost = [trial for trial in record.trials.values() if trial.role == "trial"]
    assert len(lost) == 2
    for trial in lost:
        assert trial.status == "failed"
        away = f"the agent at {agent.url} does not answer: Connection refused; waited for it for 2 s"
        assert trial.reason == f"not measured: latency: {away}"
        assert trial.readings["size"].value is not None
    assert json.loads(json.dumps(status_document(SweepFiles(folder / "sweeps" / "edge"))))["status"] == "done"


def status(folder: Path) -> list[str]:
    return status_lines(status_document(SweepFiles(folder / "sweeps" / "edge")))
