"""The division of a cluster among sweeps, with a simulated clock and simulated sweeps."""

from hypothesis import given, settings
from hypothesis import strategies as st

from paretta.orchestrator.cluster.fair_share import FairShare, LaneRequest

EIGHT = {"CPU": 8.0}


class Cluster:
    """Sweeps that start what they are granted at once, and give back what they must at the end of a job."""

    def __init__(self, capacity: dict[str, float]) -> None:
        self.now, self.capacity = 0.0, capacity
        self.shares = FairShare(lambda: self.now, turn_s=100.0, silent_s=60.0)
        self.held: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def ask(self, name: str, wanted: int, cpus: float = 1.0, priority: float = 1.0, *, job_ends: bool = True) -> int:
        held = self.held.get(name, 0)
        grant = self.shares.ask(name, LaneRequest({"CPU": cpus}, wanted, held, priority), self.capacity)
        self.held[name] = grant.lanes if job_ends or grant.lanes > held else held
        return self.held[name]

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        for name, held in self.held.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + held * seconds


def test_a_sweep_alone_gets_what_it_wants_and_no_more_than_there_is() -> None:
    cluster = Cluster(EIGHT)
    assert cluster.ask("a", wanted=3) == 3
    assert cluster.ask("a", wanted=20) == 8
    assert cluster.ask("a", wanted=2) == 2


def test_a_second_sweep_gets_half_once_the_first_has_given_it_back() -> None:
    cluster = Cluster(EIGHT)
    cluster.ask("a", wanted=8)
    assert cluster.ask("b", wanted=8) == 0  # nothing is free yet
    assert cluster.ask("a", wanted=8, job_ends=False) == 8  # still at work
    assert cluster.ask("b", wanted=8) == 0
    assert cluster.ask("a", wanted=8) == 4
    assert cluster.ask("b", wanted=8) == 0  # the first has not told yet that its lanes have ended
    assert cluster.ask("a", wanted=8) == 4
    assert cluster.ask("b", wanted=8) == 4
    cluster.shares.leave("a")
    assert cluster.ask("b", wanted=8) == 8


def test_priority_weighs_and_what_one_does_not_want_the_others_get() -> None:
    cluster = Cluster({"CPU": 9.0})
    for _ in range(3):
        lanes = {name: cluster.ask(name, 9, priority=weight) for name, weight in (("a", 2.0), ("b", 1.0))}
    assert lanes == {"a": 6, "b": 3}
    for _ in range(3):
        lanes = {name: cluster.ask(name, wanted) for name, wanted in (("a", 2), ("b", 9))}
    assert lanes == {"a": 2, "b": 7}


def test_sweeps_take_turns_where_not_each_can_have_a_lane() -> None:
    cluster = Cluster({"CPU": 2.0})
    for _ in range(600):
        for name in ("a", "b", "c"):
            cluster.ask(name, wanted=4, cpus=2.0)
        assert sum(cluster.held.values()) <= 1
        cluster.pass_by(2.0)
    assert min(cluster.seconds.values()) >= 0.9 * 1200 / 3


def test_a_sweep_that_is_silent_no_longer_counts() -> None:
    cluster = Cluster(EIGHT)
    cluster.ask("killed", wanted=8)
    assert cluster.ask("b", wanted=8) == 0
    for _ in range(4):
        cluster.pass_by(20.0)
        cluster.ask("b", wanted=8)
    assert cluster.held["b"] == 8


@settings(max_examples=25, deadline=None)
@given(
    capacity=st.integers(1, 12),
    sweeps=st.lists(
        st.tuples(st.integers(1, 8), st.integers(1, 4), st.sampled_from([0.5, 1.0, 3.0])), min_size=1, max_size=4
    ),
    busy=st.lists(st.booleans(), min_size=15, max_size=15),
)
def test_no_more_is_granted_than_the_cluster_has_and_no_sweep_starves(
    capacity: int, sweeps: list[tuple[int, int, float]], busy: list[bool]
) -> None:
    cluster = Cluster({"CPU": float(capacity)})
    for ends in busy + [True] * 25 * len(sweeps):
        for number, (wanted, cpus, priority) in enumerate(sweeps):
            cluster.ask(str(number), wanted, float(cpus), priority, job_ends=ends)
            used = sum(cluster.held.get(str(other), 0) * size for other, (_, size, _) in enumerate(sweeps))
            assert used <= capacity
        cluster.pass_by(10.0)
    served = {name for name, seconds in cluster.seconds.items() if seconds > 0}
    assert served == {str(number) for number, (_, cpus, _) in enumerate(sweeps) if cpus <= capacity}


def test_what_all_have_use_for_is_listed_by_node_until_they_leave_or_fall_silent() -> None:
    cluster = Cluster({"CPU": 1.0})
    two_workers = ({"CPU": 1.0}, {"CPU": 1.0})
    cluster.shares.ask("a", LaneRequest({"CPU": 2.0}, 0, 0, useful=2, bundles=two_workers), cluster.capacity)
    cluster.ask("b", wanted=1)
    assert cluster.shares.useful() == [{"CPU": 1.0}] * 5
    cluster.shares.ask("a", LaneRequest({"CPU": 2.0}, 0, 0, useful=1, bundles=two_workers), cluster.capacity)
    assert cluster.shares.useful() == [{"CPU": 1.0}] * 3
    cluster.shares.leave("a")
    assert cluster.shares.useful() == [{"CPU": 1.0}]
    cluster.pass_by(61.0)
    assert cluster.shares.is_over()
    assert cluster.shares.useful() == []


def test_a_turn_begins_once_the_lane_has_started() -> None:
    cluster = Cluster({"CPU": 1.0})

    def asked(*, started: bool) -> int:
        return cluster.shares.ask("a", LaneRequest({"CPU": 1.0}, 1, 1, started=started), cluster.capacity).lanes

    assert cluster.ask("a", wanted=1) == 1
    assert cluster.ask("b", wanted=1) == 0
    for _ in range(6):  # workers that take longer to start than a turn
        cluster.pass_by(50.0)
        assert asked(started=False) == 1
        assert cluster.ask("b", wanted=1) == 0
    cluster.pass_by(50.0)
    assert asked(started=True) == 1
    assert cluster.ask("b", wanted=1) == 0
    cluster.pass_by(55.0)
    assert asked(started=True) == 0
