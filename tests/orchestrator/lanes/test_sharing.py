"""Two sweeps on a real Ray that has too little for both: they divide its lanes, or take turns on one."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from paretta.orchestrator.cluster.connect import connect
from paretta.orchestrator.cluster.lane_broker import broker
from paretta.orchestrator.lanes.elastic import ElasticLanes
from paretta.orchestrator.lanes.pool import Job, LanePool, RankContext

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

ONE_CPU = {"CPU": 1.0}
TURN_S = 8.0


def handler() -> Callable[[Mapping[str, object], RankContext], object]:
    """Return a handler that works for a second and tells when; defined inside, so that it travels to the workers."""

    def handle(payload, rank):  # type: ignore[no-untyped-def]
        import time

        time.sleep(1.0)
        return time.time(), rank.attempt

    return handle


def lanes_of(
    stack: ExitStack, folder: Path, names: Mapping[str, float], *, at_most: int
) -> Iterator[tuple[LanePool, ElasticLanes]]:
    """Give each sweep a pool whose lanes the broker decides on; `names` have their priorities."""
    for name, priority in names.items():
        pool = LanePool(handler(), storage=folder / name, num_lanes=0, workers_per_lane=1, start_timeout_s=240.0)
        lanes = stack.enter_context(pool)
        elastic = ElasticLanes(
            lanes,
            f"{name}#1",
            [ONE_CPU],
            fitting=lambda: at_most,
            useful=at_most,
            priority=priority,
            show=lambda _: None,
        )
        yield lanes, stack.enter_context(elastic)


def test_a_sweep_of_twice_the_priority_has_twice_the_lanes(tmp_path: Path) -> None:
    with connect(num_cpus=3), ExitStack() as stack:
        sweeps = [lanes for lanes, _ in lanes_of(stack, tmp_path, {"first": 2.0, "second": 1.0}, at_most=3)]
        deadline = time.monotonic() + 120.0
        while (shares := [lanes.alive() for lanes in sweeps]) != [2, 1]:
            assert time.monotonic() < deadline, shares
            time.sleep(0.5)
        for lanes in sweeps:
            lanes.submit(Job("job", {}))
        assert all(lanes.result("job", timeout_s=120.0) for lanes in sweeps)
        time.sleep(3.0)  # one more request of each: the shares stay
        assert [lanes.alive() for lanes in sweeps] == [2, 1]


def test_two_sweeps_take_turns_on_the_only_lane_and_neither_starves(tmp_path: Path) -> None:
    num_jobs = 16
    with connect(num_cpus=1), ExitStack() as stack:
        broker(TURN_S)
        sweeps = [lanes for lanes, _ in lanes_of(stack, tmp_path, {"a": 1.0, "b": 1.0}, at_most=1)]
        for lanes in sweeps:
            for number in range(num_jobs):
                lanes.submit(Job(str(number), {}))
        ended: list[tuple[float, int]] = []
        for sweep, lanes in enumerate(sweeps):
            for number in range(num_jobs):
                at, attempt = lanes.result(str(number), timeout_s=400.0)  # type: ignore[misc]
                assert attempt == 1, "no job was interrupted"
                ended.append((at, sweep))
            assert lanes.lost() == ""
    order = [sweep for _, sweep in sorted(ended)]
    turns = [sweep for place, sweep in enumerate(order) if place == 0 or sweep != order[place - 1]]
    assert len(turns) >= 4, order  # a, b, a, b
    assert turns[:4] == [0, 1, 0, 1]
