"""Ray's own autoscaler, on raylets of this machine: it brings nodes for queued lanes and takes them back."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import ray
from disturbed import user_folder
from ray_nodes import Nodes, ray_nodes

from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.cluster.capacity import has_room, lane_bundles, lanes_that_fit
from paretta.orchestrator.cluster.connect import connect
from paretta.orchestrator.cluster.fair_share import LaneRequest, total
from paretta.orchestrator.cluster.lane_broker import await_room, unique_name
from paretta.orchestrator.lanes.elastic import ElasticLanes
from paretta.orchestrator.lanes.pool import Handler, Job, LanePool

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

ONE_CPU = {"CPU": 1.0}
SWEEP = """
task: {use: "./mytask.py:make"}
baseline: [{kind: train, epochs: 3, lr: 0.01, batch_size: 32}]
space:
  - {kind: prune, sparsity: {float: [0.0, 0.8]}}
  - {kind: train, epochs: 3, lr: 0.01, batch_size: 32}
objectives: [size, accuracy]
search: {sampler: random, trials: 4, seed: 1}
workers: {per_trial: 1, cpus: 1, start_timeout_s: 240}
"""
# what a cluster of machines runs on a node, and the autoscaler wants to be told
COMMANDS = (
    "cluster_synced_files",
    "rsync_exclude",
    "rsync_filter",
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """A head without CPUs, whose autoscaler may add three nodes of one CPU and ends those idle for twelve seconds."""
    with ray_nodes() as nodes:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            monkeypatch.setenv(name, nodes.environment[name])
        kinds = {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 3},
        }
        config = {
            "cluster_name": "growing",
            "max_workers": 3,
            "idle_timeout_minutes": 0.2,
            "provider": {
                "type": "fake_multinode",
                "gcs_address": f"127.0.0.1:{nodes.port}",
                "use_node_id_as_ip": True,  # all nodes share one
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "auth": {},
            "available_node_types": kinds,
            "head_node_type": "ray.head.default",
            "upscaling_speed": 1.0,
            "docker": {},
            "file_mounts": {},
            "file_mounts_sync_continuously": False,
            **{name: [] for name in COMMANDS},
        }
        path = tmp_path / "autoscaler.yaml"
        path.write_text(json.dumps(config), encoding="utf-8")
        environment = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        nodes.add(cpus=0, environment=environment, options=[f"--autoscaling-config={path}"])
        nodes.wait()
        yield nodes


def handler_that_waits() -> Handler:
    """Return a handler that tells its node once a file is there; defined inside, so that it travels whole."""

    def handle(payload, rank):  # type: ignore[no-untyped-def]
        import time
        from pathlib import Path

        import ray

        while not Path(payload["until"]).exists():
            time.sleep(0.05)
        return ray.get_runtime_context().get_node_id()

    return cast(Handler, handle)


def num_workers() -> int:
    """Count the nodes that the autoscaler has brought."""
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())  # type: ignore[no-untyped-call]


def wait_until(is_true: Callable[[], bool], seconds: float = 240.0) -> None:
    """Wait until something is true; fail if it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_nodes_come_for_queued_lanes_and_go_when_the_search_has_no_use_for_them(growing: Nodes, tmp_path: Path) -> None:
    release, bundles = tmp_path / "release", lane_bundles(1, ONE_CPU)
    with connect(growing.address, timeout_s=240.0):
        name = unique_name("ours")
        assert num_workers() == 0
        await_room(
            name,
            LaneRequest(total(bundles), 0, 0, useful=2, bundles=tuple(bundles)),
            lambda: has_room(1, 1, ONE_CPU),
            timeout_s=240.0,
        )
        with (
            LanePool(
                handler_that_waits(), storage=tmp_path / "ray", num_lanes=0, workers_per_lane=1, start_timeout_s=240.0
            ) as lanes,
            ElasticLanes(
                lanes,
                name,
                bundles,
                fitting=lambda: lanes_that_fit(1, ONE_CPU, 2),
                useful=2,
                priority=1.0,
                show=lambda _: None,
            ) as elastic,
        ):
            for uid in ("a", "b"):
                lanes.submit(Job(uid, {"until": str(release)}))
            wait_until(lambda: all(lanes.client.wait(uid, timeout_s=0.1).where for uid in ("a", "b")))
            assert num_workers() == 2  # not three: two lanes were asked for
            release.touch()
            assert len({lanes.result(uid, timeout_s=60.0) for uid in ("a", "b")}) == 2
            elastic.need(1)
            wait_until(lambda: num_workers() == 1)
            assert lanes.alive() == 1
        wait_until(lambda: num_workers() == 0)


def test_a_launch_waits_for_the_first_node_and_gives_all_back(growing: Nodes, tmp_path: Path) -> None:
    user_folder(tmp_path, SWEEP)
    command = [sys.executable, "-m", "paretta", "launch", "sweep.yaml", "--address", growing.address]
    environment = {**os.environ, **growing.environment, "HOME": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "waiting up to 240 s for nodes" in done.stderr
    record = SweepRecord.read(tmp_path / "sweeps" / "sweep")
    assert record.count("complete") == 4
    with connect(growing.address, timeout_s=60.0):
        wait_until(lambda: num_workers() == 0)
