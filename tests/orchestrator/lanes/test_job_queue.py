"""The rules of delivery with a simulated clock: no Ray, no threads, no waiting."""

import pytest

from paretta.orchestrator.lanes.job_queue import JobQueue
from paretta.orchestrator.lanes.messages import JobOutcome, QueuedJob, RankAddress, RankReport, Timeouts

OK = RankReport(result=b"value")
TIMEOUTS = Timeouts(agree_s=10.0, alive_s=4.0, hung_s=30.0, silence_s=100.0)


class FakeLanes:
    """A queue with lanes of two ranks, and a clock that the test moves."""

    def __init__(self, num_lanes: int = 1) -> None:
        self.now = 0.0
        self.jobs = JobQueue(num_lanes, lambda: self.now, TIMEOUTS)

    def group(self, lane: int = 0, incarnation: str = "first", kills: int = 7) -> tuple[RankAddress, RankAddress]:
        ranks = RankAddress(lane, incarnation, 0), RankAddress(lane, incarnation, 1)
        for rank in ranks:
            self.jobs.register(rank, 2, "node-a", kills=kills)
        return ranks

    def submit(self, *uids: str, limit_s: float | None = None) -> None:
        for uid in uids:
            self.jobs.submit(QueuedJob(uid, uid.encode(), max_attempts=2, limit_s=limit_s))

    def taken(self, address: RankAddress, number: int) -> str | None:
        delivery = self.jobs.take(address, number)
        return delivery and delivery.job.uid

    def outcome(self, uid: str) -> JobOutcome:
        outcome = self.jobs.update_of(uid, 0).outcome
        assert outcome is not None
        return outcome

    def wait(self, seconds: float, *alive: RankAddress) -> None:
        self.now += seconds
        for address in alive:
            self.jobs.heartbeat(address)
        self.jobs.tick()


def test_all_ranks_get_the_same_jobs_in_the_same_order() -> None:
    queue = FakeLanes()
    zero, one = queue.group()
    queue.submit("a", "b")
    assert queue.taken(one, 0) == queue.taken(zero, 0) == "a"
    queue.jobs.report(one, 0, OK)
    assert queue.taken(one, 1) is None  # rank 0 is still at work
    queue.jobs.report(zero, 0, RankReport(result=b"of rank 0"))
    assert queue.outcome("a").result == b"of rank 0"
    assert queue.taken(zero, 1) == queue.taken(one, 1) == "b"


def test_two_lanes_share_one_queue() -> None:
    queue = FakeLanes(num_lanes=2)
    first, second = queue.group(0), queue.group(1)
    queue.submit("a", "b", "c")
    assert [queue.taken(rank, 0) for rank in (*first, *second)] == ["a", "a", "b", "b"]
    assert [queue.jobs.update_of(uid, 0).where for uid in "abc"] == ["lane 0 on node-a", "lane 1 on node-a", ""]


def test_a_new_incarnation_gets_the_job_again_and_the_old_one_is_not_heard() -> None:
    queue = FakeLanes()
    zero, one = queue.group()
    queue.submit("a", "b")
    queue.taken(zero, 0)
    queue.jobs.report(one, 0, OK)
    again = queue.group(incarnation="second")
    queue.jobs.report(zero, 0, OK)
    assert queue.jobs.update_of("a", 0).outcome is None
    assert queue.jobs.heartbeat(zero) == "leave"
    delivery = queue.jobs.take(again[0], 0)
    assert delivery is not None
    assert (delivery.job.uid, delivery.attempt) == ("a", 2)
    queue.group(incarnation="third")
    assert queue.outcome("a").reason == "a worker of lane 0 died while running it (attempt 2 of 2)"


def test_a_job_that_was_acknowledged_by_all_is_not_delivered_again() -> None:
    queue = FakeLanes()
    zero, one = queue.group()
    queue.submit("a")
    queue.taken(zero, 0)
    for rank in (zero, one):
        queue.jobs.report(rank, 0, OK)
    assert queue.taken(queue.group(incarnation="second")[0], 0) is None


def test_a_stuck_rank_that_lives_fails_the_job_with_the_first_error() -> None:
    queue = FakeLanes()
    zero, one = queue.group()
    queue.submit("a")
    queue.taken(zero, 0)
    queue.jobs.report(one, 0, RankReport(error_type="ValueError", reason="ValueError: no"))
    queue.wait(9.0, zero, one)
    assert queue.jobs.heartbeat(zero) == "stay"
    queue.wait(2.0, zero, one)
    assert queue.outcome("a").reason == "ValueError: no (rank 1; rank 0 did not end the job)"
    assert queue.jobs.heartbeat(zero) == queue.jobs.heartbeat(one) == "restart"
    queue.submit("b")
    assert queue.taken(zero, 1) is None  # nothing is given to a group out of step


def test_a_silent_rank_is_dead_and_its_job_waits_for_the_next_incarnation() -> None:
    queue = FakeLanes()
    zero, one = queue.group()
    queue.jobs.heartbeat(zero)
    queue.submit("a")
    queue.taken(zero, 0)
    queue.jobs.report(one, 0, RankReport(error_type="RuntimeError", reason="connection closed by peer"))
    queue.wait(11.0, one)
    assert queue.jobs.update_of("a", 0).outcome is None
    assert queue.taken(queue.group(incarnation="second")[0], 0) == "a"


@pytest.mark.parametrize(("reasons", "order"), [(("no", "no"), "stay"), (("no", "gone"), "restart")])
def test_ranks_that_raise_alike_keep_their_group(reasons: tuple[str, str], order: str) -> None:
    queue = FakeLanes()
    ranks = queue.group()
    queue.submit("a")
    for rank, reason in zip(ranks, reasons, strict=True):
        queue.taken(rank, 0)
        queue.jobs.report(rank, 0, RankReport(error_type="ValueError", reason=reason))
    assert queue.outcome("a").status == "failed"
    assert queue.outcome("a").reason.startswith("no")
    assert queue.jobs.heartbeat(ranks[0]) == order


def test_a_stop_is_heard_by_all_ranks_at_the_same_message() -> None:
    queue = FakeLanes()
    zero, one = queue.group()
    queue.submit("a", "b")
    queue.taken(zero, 0)
    assert not queue.jobs.progress(zero, 0, 0, {"epoch": 0})
    queue.jobs.cancel("a")
    assert not queue.jobs.progress(one, 0, 0, {"epoch": 0})  # rank 0 went on past this message
    assert queue.jobs.progress(one, 0, 1, {"epoch": 1})
    assert queue.jobs.progress(zero, 0, 1, {"epoch": 1})
    assert queue.jobs.update_of("a", 1).progress == ({"epoch": 1},)
    queue.jobs.cancel("b")
    assert queue.outcome("b").status == "stopped"


def test_a_limit_ends_the_attempt() -> None:
    queue = FakeLanes()
    zero, one = queue.group()
    queue.submit("a", limit_s=5.0)
    queue.wait(50.0, zero)  # waiting in the queue does not count
    queue.taken(zero, 0)
    queue.wait(4.0, zero, one)
    assert queue.jobs.heartbeat(zero) == "stay"
    queue.wait(2.0, zero, one)
    assert queue.outcome("a").reason == "took longer than its limit of 5 s"
    assert queue.jobs.heartbeat(zero) == "restart"


def test_a_lane_that_falls_silent_has_its_job_go_to_another_and_starts_anew_if_it_comes_back() -> None:
    queue = FakeLanes(num_lanes=2)
    (zero, one), other = queue.group(0), queue.group(1)[0]
    queue.submit("a")
    queue.taken(zero, 0)
    queue.wait(29.0, zero, one)
    queue.wait(29.0, one)
    assert queue.taken(other, 0) is None
    queue.wait(2.0, one)
    assert queue.jobs.heartbeat(one) == queue.jobs.heartbeat(zero) == "restart"
    assert queue.taken(zero, 0) is None
    assert queue.taken(other, 0) == "a"
    queue.jobs.report(zero, 0, OK)
    assert queue.jobs.update_of("a", 0).outcome is None


def test_a_lane_that_ends_hands_its_job_on_and_the_last_one_returns_the_rest() -> None:
    queue = FakeLanes(num_lanes=2)
    zero, other = queue.group(0)[0], queue.group(1)[0]
    queue.submit("a", "b")
    queue.taken(zero, 0)
    queue.jobs.lane_ended(0, "node lost")
    assert queue.taken(other, 0) == "a"
    queue.wait(101.0)
    assert queue.outcome("a").reason == "lane 1 ended: it sent no heartbeat for 100 s (attempt 2 of 2)"
    queue.submit("c")
    for uid in "bc":
        assert queue.outcome(uid).status == "returned"
        assert queue.outcome(uid).reason.startswith("no lane is left to run it: lane 0: node lost; lane 1: it sent no")


def test_a_uid_in_work_is_not_queued_twice_and_an_ended_one_may_run_again() -> None:
    queue = FakeLanes()
    zero, one = queue.group()
    queue.submit("a")
    queue.submit("a")
    queue.taken(zero, 0)
    queue.submit("a")
    for rank in (zero, one):
        queue.jobs.report(rank, 0, OK)
    assert queue.taken(zero, 1) is None
    queue.submit("a")
    assert queue.taken(zero, 1) == "a"


def test_closing_sends_everyone_home_and_ends_every_job() -> None:
    queue = FakeLanes()
    zero, _ = queue.group()
    queue.submit("a", "b")
    queue.taken(zero, 0)
    queue.jobs.close()
    assert queue.jobs.heartbeat(zero) == "leave"
    assert {queue.outcome(uid).status for uid in "ab"} == {"returned"}
    queue.submit("c")
    assert queue.outcome("c").reason == "the lanes were closed"


def test_winding_down_returns_what_was_not_begun_and_lets_the_rest_end() -> None:
    queue = FakeLanes()
    zero, one = queue.group()
    queue.submit("begun", "waiting")
    assert queue.taken(zero, 0) == queue.taken(one, 0) == "begun"
    queue.jobs.wind_down()
    queue.submit("late")
    assert [queue.outcome(uid).status for uid in ("waiting", "late")] == ["returned", "returned"]
    assert queue.jobs.update_of("begun", 0).outcome is None
    # a worker dies: the job was begun, so it is delivered again and ends
    zero, one = queue.group(incarnation="second")
    assert queue.taken(zero, 0) == queue.taken(one, 0) == "begun"
    queue.jobs.report(zero, 0, OK)
    queue.jobs.report(one, 0, OK)
    assert queue.outcome("begun").status == "done"


def test_winding_down_keeps_a_job_whose_workers_died_and_that_waits_to_be_delivered_again() -> None:
    queue = FakeLanes()
    zero, _ = queue.group()
    queue.submit("begun", "waiting")
    queue.taken(zero, 0)
    again = queue.group(incarnation="second")  # the job is back in the queue, and no lane has taken it yet
    queue.jobs.wind_down()
    assert queue.outcome("waiting").status == "returned"
    assert queue.jobs.update_of("begun", 0).outcome is None
    assert [queue.taken(rank, 0) for rank in again] == ["begun", "begun"]


def test_a_lane_is_not_to_blame_while_attempts_at_jobs_end_on_it() -> None:
    queue = FakeLanes(num_lanes=2)
    ranks = queue.group()
    queue.submit("a", "b")
    assert queue.jobs.served(0) == 0
    for rank in ranks:
        queue.taken(rank, 0)
    assert queue.jobs.served(0) == 0  # begun is not served
    for rank in ranks:
        queue.jobs.report(rank, 0, OK)
    assert queue.jobs.served(0) == 1
    queue.taken(ranks[0], 1)
    queue.group(incarnation="second")  # the workers died under the job, which is delivered again
    assert queue.jobs.served(0) == 2
    assert queue.jobs.served(1) == 0


def test_the_reservation_of_the_last_group_is_known() -> None:
    queue = FakeLanes(num_lanes=1)
    assert queue.jobs.reservation(0) == ""
    queue.jobs.register(RankAddress(0, "first", 0), 1, "node-a", "held")
    queue.jobs.register(RankAddress(0, "second", 0), 1, "node-a", "held anew")
    assert queue.jobs.reservation(0) == "held anew"


@pytest.mark.parametrize("seen_by", ["the kernel", "Ray"])
def test_a_job_whose_workers_die_for_want_of_memory_says_so_and_ends(seen_by: str) -> None:
    queue = FakeLanes()
    zero, _ = queue.group()
    queue.submit("a", "b")
    queue.taken(zero, 0)
    zero, _ = queue.group(incarnation="second")
    queue.taken(zero, 0)
    if seen_by == "Ray":
        queue.jobs.blame_memory(0)
    zero, _ = queue.group(incarnation="third", kills=8 if seen_by == "the kernel" else 7)
    outcome = queue.outcome("a")
    assert outcome.status == "failed"
    assert outcome.reason.startswith("out of memory: a worker of lane 0 died while running it (attempt 2 of 2); give a")
    assert queue.taken(zero, 0) == "b"
    zero, _ = queue.group(incarnation="fourth", kills=8)
    queue.taken(zero, 0)
    queue.group(incarnation="fifth", kills=8)
    assert not queue.outcome("b").reason.startswith("out of memory"), "each death has its own cause"


def test_a_lane_that_is_slow_to_start_is_told_from_one_whose_trainer_is_gone() -> None:
    queue = FakeLanes(num_lanes=2)
    for _ in range(10):  # lane 0 imports, its trainer is alive; lane 1 is silent
        queue.jobs.trainers_alive([0])
        queue.wait(50.0)
    assert queue.jobs.lanes[0].ended is None
    assert queue.jobs.lanes[1].ended == "it sent no heartbeat for 100 s"
    queue.submit("a")
    zero, one = queue.group(0)
    assert queue.taken(zero, 0) == queue.taken(one, 0) == "a"
    queue.wait(1.0, zero, one)
    queue.wait(40.0)  # the ranks hang: their job is reassigned although the trainer is alive
    queue.jobs.trainers_alive([0])
    queue.jobs.tick()
    assert queue.jobs.heartbeat(zero) == "restart"


def test_a_lane_is_not_waited_for_without_end_because_its_trainer_lives() -> None:
    queue = FakeLanes()
    queue.submit("a")
    while queue.jobs.alive():
        queue.jobs.trainers_alive([0])
        queue.wait(90.0)
    assert queue.now == pytest.approx(3600.0, abs=90.0)
    assert queue.outcome("a").reason.endswith(
        "lane 0: it sent no heartbeat for 3600 s, although its trainer process is alive"
    )


def test_a_trainer_that_dies_later_is_missed_as_soon_as_one_that_never_lived() -> None:
    queue = FakeLanes()
    for _ in range(5):
        queue.jobs.trainers_alive([0])
        queue.wait(50.0)
    queue.wait(49.0)
    assert queue.jobs.alive() == 1
    queue.wait(2.0)
    assert queue.jobs.lanes[0].ended == "it sent no heartbeat for 100 s"


def test_a_lane_that_is_given_back_ends_its_job_first_and_idle_ones_go_before_it() -> None:
    queue = FakeLanes(num_lanes=2)
    working, idle = queue.group(0), queue.group(1)
    queue.submit("a")
    assert [queue.taken(rank, 0) for rank in working] == ["a", "a"]
    assert queue.jobs.resize(1) == []
    assert [queue.jobs.heartbeat(rank) for rank in (*working, *idle)] == ["stay", "stay", "leave", "leave"]
    queue.jobs.lane_ended(1, "it was told to leave")
    queue.submit("b")
    assert queue.jobs.resize(0) == []
    assert queue.jobs.heartbeat(working[0]) == "stay"  # its job goes on
    for rank in working:
        queue.jobs.report(rank, 0, OK)
    assert queue.outcome("a").status == "done"
    assert [queue.taken(rank, 1) for rank in working] == [None, None]
    assert queue.jobs.heartbeat(working[0]) == "leave"


def test_without_lanes_jobs_wait_and_nothing_is_lost() -> None:
    queue = FakeLanes(num_lanes=1)
    queue.group(0)
    queue.jobs.resize(0)
    queue.jobs.lane_ended(0, "it was told to leave")
    queue.submit("a")
    assert (queue.jobs.lost(), queue.jobs.update_of("a", 0).outcome) == ("", None)
    assert queue.jobs.resize(2) == [1, 2]
    ranks = queue.group(2)
    assert [queue.taken(rank, 0) for rank in ranks] == ["a", "a"]


def test_a_lane_that_is_still_leaving_counts_until_it_has_ended() -> None:
    queue = FakeLanes(num_lanes=2)
    first, second = queue.group(0), queue.group(1)
    queue.submit("a", "b")
    assert [queue.taken(rank, 0) for rank in (*first, *second)] == ["a", "a", "b", "b"]
    queue.jobs.resize(1)
    assert queue.jobs.alive() == 2
    assert queue.jobs.resize(2) == []  # it still holds its resources
    queue.jobs.lane_ended(0, "it was told to leave")
    assert queue.jobs.resize(2) == [2]


def test_the_last_lane_that_dies_returns_the_jobs_unless_lanes_are_awaited() -> None:
    queue = FakeLanes(num_lanes=1)
    queue.group(0)
    queue.submit("a")
    queue.jobs.lane_ended(0, "its workers failed")
    assert queue.outcome("a").status == "returned"
    assert "its workers failed" in queue.jobs.lost()
