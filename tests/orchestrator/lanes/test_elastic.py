"""Lanes on a real local Ray whose cluster another sweep wants too: given back between two jobs, and had again."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from paretta.orchestrator.cluster.connect import ConnectedCluster, connect
from paretta.orchestrator.cluster.fair_share import LaneRequest
from paretta.orchestrator.cluster.lane_broker import ask_broker, leave_broker
from paretta.orchestrator.lanes.elastic import ElasticLanes
from paretta.orchestrator.lanes.pool import Job, LanePool, RankContext

ONE_CPU = {"CPU": 1.0}


def handler() -> Callable[[Mapping[str, object], RankContext], object]:
    """Return a handler that waits for a file; defined inside, so that it travels to the workers whole."""

    def handle(payload, rank):  # type: ignore[no-untyped-def]
        import time
        from pathlib import Path

        while not Path(payload["until"]).exists():
            time.sleep(0.05)
        return rank.attempt

    return handle


@pytest.fixture(scope="module")
def cluster() -> Iterator[ConnectedCluster]:
    with connect(num_cpus=2) as cluster:
        yield cluster


def wait_until(is_true: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until something is true; fail if it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.usefixtures("cluster")
def test_a_sweep_gives_lanes_back_between_jobs_and_gets_them_again(tmp_path: Path) -> None:
    shown: list[str] = []
    now, later = tmp_path / "now", tmp_path / "later"
    now.touch()

    def other(held: int) -> int:
        return ask_broker("other#1", LaneRequest(ONE_CPU, wanted=2, held=held)).lanes

    with (
        LanePool(handler(), storage=tmp_path / "ray", num_lanes=0, workers_per_lane=1) as lanes,
        ElasticLanes(
            lanes, "ours#1", [ONE_CPU], fitting=lambda: 2, useful=3, priority=1.0, show=shown.append
        ) as elastic,
    ):
        assert (elastic.granted, lanes.alive()) == (2, 2)
        for uid in ("a", "b"):
            lanes.submit(Job(uid, {"until": str(later)}))
        wait_until(lambda: all(lanes.client.wait(uid, timeout_s=0.1).where for uid in ("a", "b")))
        assert other(held=0) == 0
        wait_until(lambda: elastic.granted == 1)
        assert lanes.alive() == 2  # both are at work
        assert other(held=0) == 0
        later.touch()
        assert [lanes.result(uid, timeout_s=60.0) for uid in ("a", "b")] == [1, 1]  # neither was interrupted
        wait_until(lambda: other(held=0) == 1)
        lanes.submit(Job("c", {"until": str(now)}))
        assert lanes.result("c", timeout_s=60.0) == 1
        assert lanes.lost() == ""
        leave_broker("other#1")
        wait_until(lambda: elastic.granted == 2 and lanes.alive() == 2)
        elastic.need(1)
        wait_until(lambda: lanes.alive() == 1)
    assert shown == ["2 lane(s)", "1 lane(s); the cluster is shared with other", "2 lane(s)", "1 lane(s)"]
