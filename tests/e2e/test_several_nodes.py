"""A sweep on several nodes, one of which is killed: the sweep finishes and no finished work is repeated."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from disturbed import endings, user_folder
from ray_nodes import Host, Node, Nodes, ray_nodes

from paretta.dashboards.journal.journal import events
from paretta.dashboards.journal.record import SweepRecord

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

SWEEP = """
task: {{use: "./mytask.py:make"}}
baseline: [{{kind: train, epochs: 3, lr: 0.01, batch_size: 32}}]
space:
  - {{kind: prune, sparsity: {{float: [0.0, 0.8]}}}}
  - {{kind: quantize, bits: {{int: [2, 8]}}}}
  - {{kind: train, epochs: {epochs}, optimizer: sgd, lr: {{choice: [0.01, 0.02]}}, batch_size: 16}}
objectives: [size, accuracy]
search: {{sampler: random, trials: 10, seed: 1}}
workers: {{{workers}, cpus: 1, hung_after_s: 5, attempts: 4, start_timeout_s: 60}}
"""
TRAINS = "ray::RayTrainWorker"


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    """A head that measures and three nodes that train, one worker each."""
    with ray_nodes() as nodes:
        nodes.add(cpus=0, resources='{"latency_slot": 1}')
        for number in (2, 3, 4):
            nodes.add(Host(f"127.0.0.{number}"))
        nodes.wait()
        yield nodes


def swept(
    cluster: Nodes, folder: Path, workers: str, blow: Callable[[Nodes], None], *, epochs: int = 60
) -> SweepRecord:
    """Launch a sweep on the cluster and strike once it has ended two trials and trains another."""
    user_folder(folder, SWEEP.format(workers=workers, epochs=epochs))
    command = [sys.executable, "-m", "paretta", "launch", "sweep.yaml", "--address", cluster.address]
    environment = {**os.environ, **cluster.environment, "HOME": str(folder)}
    with (folder / "log").open("w") as log:
        driver = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(lambda record: record.count("complete") >= 2 and bool(record.progress), folder, driver)
        blow(cluster)
        assert driver.wait(600) == 0, (folder / "log").read_text()
    finally:
        driver.kill()
        driver.wait()
    return SweepRecord.read(folder / "sweeps" / "sweep")


def _wait_for(ready: Callable[[SweepRecord], bool], folder: Path, driver: subprocess.Popen[bytes]) -> None:
    deadline, journal = time.monotonic() + 400, folder / "sweeps" / "sweep" / "journal.jsonl"
    while not (journal.exists() and ready(SweepRecord.read(journal.parent))):
        assert driver.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.05)


def trains(cluster: Nodes) -> list[Node]:
    return [node for node in cluster.nodes[1:] if node.workers(TRAINS)]


def kill_one_that_trains(struck: list[int], cluster: Nodes) -> None:
    """Cut the power of a node that trains, and note how many of them there were."""
    training = trains(cluster)
    struck.append(len(training))
    training[-1].kill()


def require_nothing_lost(record: SweepRecord) -> None:
    assert record.status == "done"
    assert record.count("complete") == 10
    assert len(record.front()) > 0
    epochs: dict[str, list[int]] = {}
    for event, _ in events(record.folder):
        match event:
            case {"event": "front"}:
                break
            case {"event": "progress", "uid": uid, "message": {"epoch": int(epoch)}}:
                epochs.setdefault(str(uid), []).append(epoch)
    assert set(endings(record.folder).values()) == {1}
    for uid, seen in epochs.items():
        assert seen == sorted(seen), f"{uid} went back"  # an epoch may be reported twice, but no earlier one


def test_a_trial_whose_workers_span_nodes_goes_on_when_one_of_them_dies(cluster: Nodes, tmp_path: Path) -> None:
    struck: list[int] = []
    record = swept(cluster, tmp_path, "per_trial: 2, lanes: 1", partial(kill_one_that_trains, struck))
    assert struck == [2]
    require_nothing_lost(record)


def test_trials_that_run_side_by_side_outlive_the_node_of_one_of_them(cluster: Nodes, tmp_path: Path) -> None:
    struck: list[int] = []
    record = swept(cluster, tmp_path, "per_trial: 1, lanes: auto", partial(kill_one_that_trains, struck))
    assert struck == [3]
    assert record.facts["lanes"] == 3
    require_nothing_lost(record)


def test_a_node_that_joins_gets_a_lane_of_its_own(tmp_path: Path) -> None:
    def blow(nodes: Nodes) -> None:
        nodes.add(Host("127.0.0.3"))

    with ray_nodes() as nodes:
        nodes.add(cpus=0, resources='{"latency_slot": 1}')
        nodes.add(Host("127.0.0.2"))
        nodes.wait()
        record = swept(nodes, tmp_path, "per_trial: 1, lanes: auto", blow, epochs=300)  # a lane takes seconds to start
    assert record.facts["lanes"] == 1
    assert "\n2 lane(s)\n" in (tmp_path / "log").read_text()
    told = [event["message"] for event, _ in events(record.folder) if event["event"] == "progress"]
    assert {str(message.get("where", ""))[:6] for message in told if isinstance(message, dict)} >= {"lane 0", "lane 1"}
    require_nothing_lost(record)
