"""The rules of delivery with a clock in hand: no Ray, no threads, no waiting."""

import pytest

from orchestrator.mailbox import Letter, Mailbox, Outcome, Patience, Place, Report

OK = Report(result=b"value")
PATIENCE = Patience(agree_s=10.0, alive_s=4.0, hung_s=30.0, silence_s=100.0)


class Post:
    """A mailbox with lanes of two ranks, and the hand that moves its clock."""

    def __init__(self, num_lanes: int = 1) -> None:
        self.now = 0.0
        self.box = Mailbox(num_lanes, lambda: self.now, PATIENCE)

    def group(self, lane: int = 0, incarnation: str = "first", kills: int = 7) -> tuple[Place, Place]:
        ranks = Place(lane, incarnation, 0), Place(lane, incarnation, 1)
        for rank in ranks:
            self.box.hello(rank, 2, "node-a", kills=kills)
        return ranks

    def submit(self, *uids: str, limit_s: float | None = None) -> None:
        for uid in uids:
            self.box.submit(Letter(uid, uid.encode(), max_attempts=2, limit_s=limit_s))

    def taken(self, place: Place, number: int) -> str | None:
        delivery = self.box.take(place, number)
        return delivery and delivery.letter.uid

    def outcome(self, uid: str) -> Outcome:
        outcome = self.box.look(uid, 0).outcome
        assert outcome is not None
        return outcome

    def wait(self, seconds: float, *alive: Place) -> None:
        self.now += seconds
        for place in alive:
            self.box.orders(place)
        self.box.tick()


def test_all_ranks_get_the_same_jobs_in_the_same_order() -> None:
    post = Post()
    zero, one = post.group()
    post.submit("a", "b")
    assert post.taken(one, 0) == post.taken(zero, 0) == "a"
    post.box.report(one, 0, OK)
    assert post.taken(one, 1) is None  # rank 0 is still at work
    post.box.report(zero, 0, Report(result=b"of rank 0"))
    assert post.outcome("a").result == b"of rank 0"
    assert post.taken(zero, 1) == post.taken(one, 1) == "b"


def test_two_lanes_share_one_queue() -> None:
    post = Post(num_lanes=2)
    first, second = post.group(0), post.group(1)
    post.submit("a", "b", "c")
    assert [post.taken(rank, 0) for rank in (*first, *second)] == ["a", "a", "b", "b"]
    assert [post.box.look(uid, 0).where for uid in "abc"] == ["lane 0 on node-a", "lane 1 on node-a", ""]


def test_a_new_incarnation_gets_the_job_again_and_the_old_one_is_not_heard() -> None:
    post = Post()
    zero, one = post.group()
    post.submit("a", "b")
    post.taken(zero, 0)
    post.box.report(one, 0, OK)
    again = post.group(incarnation="second")
    post.box.report(zero, 0, OK)
    assert post.box.look("a", 0).outcome is None
    assert post.box.orders(zero) == "leave"
    delivery = post.box.take(again[0], 0)
    assert delivery is not None
    assert (delivery.letter.uid, delivery.attempt) == ("a", 2)
    post.group(incarnation="third")
    assert post.outcome("a").reason == "a worker of lane 0 died while running it (attempt 2 of 2)"


def test_a_job_that_was_acknowledged_by_all_is_not_delivered_again() -> None:
    post = Post()
    zero, one = post.group()
    post.submit("a")
    post.taken(zero, 0)
    for rank in (zero, one):
        post.box.report(rank, 0, OK)
    assert post.taken(post.group(incarnation="second")[0], 0) is None


def test_a_stuck_rank_that_lives_fails_the_job_with_the_first_error() -> None:
    post = Post()
    zero, one = post.group()
    post.submit("a")
    post.taken(zero, 0)
    post.box.report(one, 0, Report(error_type="ValueError", reason="ValueError: no"))
    post.wait(9.0, zero, one)
    assert post.box.orders(zero) == "stay"
    post.wait(2.0, zero, one)
    assert post.outcome("a").reason == "ValueError: no (rank 1; rank 0 did not end with it)"
    assert post.box.orders(zero) == post.box.orders(one) == "restart"
    post.submit("b")
    assert post.taken(zero, 1) is None  # nothing is given to a group out of step


def test_a_silent_rank_is_dead_and_its_job_waits_for_the_next_incarnation() -> None:
    post = Post()
    zero, one = post.group()
    post.box.orders(zero)
    post.submit("a")
    post.taken(zero, 0)
    post.box.report(one, 0, Report(error_type="RuntimeError", reason="connection closed by peer"))
    post.wait(11.0, one)
    assert post.box.look("a", 0).outcome is None
    assert post.taken(post.group(incarnation="second")[0], 0) == "a"


@pytest.mark.parametrize(("reasons", "order"), [(("no", "no"), "stay"), (("no", "gone"), "restart")])
def test_ranks_that_raise_alike_keep_their_group(reasons: tuple[str, str], order: str) -> None:
    post = Post()
    ranks = post.group()
    post.submit("a")
    for rank, reason in zip(ranks, reasons, strict=True):
        post.taken(rank, 0)
        post.box.report(rank, 0, Report(error_type="ValueError", reason=reason))
    assert post.outcome("a").status == "failed"
    assert post.outcome("a").reason.startswith("no")
    assert post.box.orders(ranks[0]) == order


def test_a_stop_is_heard_by_all_ranks_at_the_same_message() -> None:
    post = Post()
    zero, one = post.group()
    post.submit("a", "b")
    post.taken(zero, 0)
    assert not post.box.progress(zero, 0, 0, {"epoch": 0})
    post.box.cancel("a")
    assert not post.box.progress(one, 0, 0, {"epoch": 0})  # rank 0 went on past this message
    assert post.box.progress(one, 0, 1, {"epoch": 1})
    assert post.box.progress(zero, 0, 1, {"epoch": 1})
    assert post.box.look("a", 1).progress == ({"epoch": 1},)
    post.box.cancel("b")
    assert post.outcome("b").status == "stopped"


def test_a_limit_ends_the_attempt() -> None:
    post = Post()
    zero, one = post.group()
    post.submit("a", limit_s=5.0)
    post.wait(50.0, zero)  # waiting in the queue does not count
    post.taken(zero, 0)
    post.wait(4.0, zero, one)
    assert post.box.orders(zero) == "stay"
    post.wait(2.0, zero, one)
    assert post.outcome("a").reason == "took longer than its limit of 5 s"
    assert post.box.orders(zero) == "restart"


def test_a_lane_that_falls_silent_has_its_job_go_to_another_and_starts_anew_if_it_comes_back() -> None:
    post = Post(num_lanes=2)
    (zero, one), other = post.group(0), post.group(1)[0]
    post.submit("a")
    post.taken(zero, 0)
    post.wait(29.0, zero, one)
    post.wait(29.0, one)
    assert post.taken(other, 0) is None
    post.wait(2.0, one)
    assert post.box.orders(one) == post.box.orders(zero) == "restart"
    assert post.taken(zero, 0) is None
    assert post.taken(other, 0) == "a"
    post.box.report(zero, 0, OK)
    assert post.box.look("a", 0).outcome is None


def test_a_lane_that_ends_hands_its_job_on_and_the_last_one_returns_the_rest() -> None:
    post = Post(num_lanes=2)
    zero, other = post.group(0)[0], post.group(1)[0]
    post.submit("a", "b")
    post.taken(zero, 0)
    post.box.lane_ended(0, "node lost")
    assert post.taken(other, 0) == "a"
    post.wait(101.0)
    assert post.outcome("a").reason == "lane 1 ended: nothing was heard of it for 100 s (attempt 2 of 2)"
    post.submit("c")
    for uid in "bc":
        assert post.outcome(uid).status == "returned"
        assert post.outcome(uid).reason.startswith("no lane is left to run it: lane 0: node lost; lane 1: nothing was")


def test_a_uid_in_work_is_not_queued_twice_and_an_ended_one_may_run_again() -> None:
    post = Post()
    zero, one = post.group()
    post.submit("a")
    post.submit("a")
    post.taken(zero, 0)
    post.submit("a")
    for rank in (zero, one):
        post.box.report(rank, 0, OK)
    assert post.taken(zero, 1) is None
    post.submit("a")
    assert post.taken(zero, 1) == "a"


def test_closing_sends_everyone_home_and_ends_every_job() -> None:
    post = Post()
    zero, _ = post.group()
    post.submit("a", "b")
    post.taken(zero, 0)
    post.box.close()
    assert post.box.orders(zero) == "leave"
    assert {post.outcome(uid).status for uid in "ab"} == {"returned"}
    post.submit("c")
    assert post.outcome("c").reason == "the lanes were closed"


def test_winding_down_returns_what_was_not_begun_and_lets_the_rest_end() -> None:
    post = Post()
    zero, one = post.group()
    post.submit("begun", "waiting")
    assert post.taken(zero, 0) == post.taken(one, 0) == "begun"
    post.box.wind_down()
    post.submit("late")
    assert [post.outcome(uid).status for uid in ("waiting", "late")] == ["returned", "returned"]
    assert post.box.look("begun", 0).outcome is None
    # a worker dies: the job was begun, so it is delivered again and ends
    zero, one = post.group(incarnation="second")
    assert post.taken(zero, 0) == post.taken(one, 0) == "begun"
    post.box.report(zero, 0, OK)
    post.box.report(one, 0, OK)
    assert post.outcome("begun").status == "done"


@pytest.mark.parametrize("seen_by", ["the kernel", "Ray"])
def test_a_job_whose_workers_die_for_want_of_memory_says_so_and_ends(seen_by: str) -> None:
    post = Post()
    zero, _ = post.group()
    post.submit("a", "b")
    post.taken(zero, 0)
    zero, _ = post.group(incarnation="second")
    post.taken(zero, 0)
    if seen_by == "Ray":
        post.box.blame_memory(0)
    zero, _ = post.group(incarnation="third", kills=8 if seen_by == "the kernel" else 7)
    outcome = post.outcome("a")
    assert outcome.status == "failed"
    assert outcome.reason.startswith("out of memory: a worker of lane 0 died while running it (attempt 2 of 2); give a")
    assert post.taken(zero, 0) == "b"
    zero, _ = post.group(incarnation="fourth", kills=8)
    post.taken(zero, 0)
    post.group(incarnation="fifth", kills=8)
    assert not post.outcome("b").reason.startswith("out of memory"), "each death has its own cause"
