"""Several nodes, each with a folder and an address of its own: workers of one job span them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import ray
from ray_nodes import Host, Nodes, ray_nodes

from paretta.orchestrator.cluster.connect import connect
from paretta.orchestrator.lanes.pool import Handler, Job, LanePool


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """Two nodes of one CPU each, so that two workers fit only both together."""
    with ray_nodes() as nodes:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            monkeypatch.setenv(name, nodes.environment[name])
        nodes.add()
        nodes.add(Host("127.0.0.2"))
        nodes.wait()
        yield nodes


def handler_that_meets_the_others() -> Handler:
    """Return a handler that adds up ranks over the process group; defined inside, so that it travels whole."""

    def handle(payload, rank):  # type: ignore[no-untyped-def]
        import ray
        import torch
        import torch.distributed

        total = torch.tensor([float(rank.rank + 1)])
        torch.distributed.all_reduce(total)
        nodes = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(nodes, ray.get_runtime_context().get_node_id())
        return {"total": float(total), "nodes": nodes}

    return cast(Handler, handle)


@pytest.mark.slow
def test_workers_of_one_job_span_nodes(two_nodes: Nodes, tmp_path: Path) -> None:
    assert os.environ["RAY_AUTH_TOKEN"] == two_nodes.environment["RAY_AUTH_TOKEN"]
    with (
        connect(two_nodes.address, timeout_s=60.0),
        LanePool(handler_that_meets_the_others(), storage=tmp_path, workers_per_lane=2, start_timeout_s=120.0) as lanes,
    ):
        lanes.submit(Job("meet", {}))
        met = cast(dict[str, object], lanes.result("meet", timeout_s=200.0))
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    assert met["total"] == 3.0
    assert set(cast(list[str], met["nodes"])) == alive
    assert len(alive) == 2
