"""Fronts: membership, hypervolume on the sweep's axes, knee and wishes."""

from dataclasses import replace

import pytest

from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.objectives.limits import parse_limits
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Detail, Reading
from paretta.search_spaces.objectives.wish import Wish
from paretta.search_spaces.results.front import Front, timed_on
from paretta.search_spaces.results.trial import Role, Status, Trial
from paretta.search_spaces.space.plan import Plan

OBJECTIVES = (
    Objective("size", "min", "B"),
    Objective("latency", "min", "ratio"),
    Objective("accuracy", "max", "share"),
)


def trial(
    number: int, size: float, latency: float, accuracy: float, *, role: Role = "trial", status: Status = "complete"
) -> Trial:
    readings = {
        "size": Reading(size, "B"),
        "latency": Reading(latency, "ratio", details={"seconds": latency / 1000}),
        "accuracy": Reading(accuracy, "share"),
    }
    return Trial(f"t{number}", number, Plan(), 0, status, role=role, readings=readings)


BASELINE = trial(0, 1000, 1.0, 0.98, role="baseline")
SMALL = trial(1, 125, 0.9, 0.90)
FAST = trial(2, 500, 0.25, 0.95)
MIDDLE = trial(3, 250, 0.5, 0.97)
WORSE = trial(4, 600, 0.6, 0.94)
FRONT = Front.of([BASELINE, SMALL, FAST, MIDDLE, WORSE], OBJECTIVES, "s")


def test_the_front_keeps_what_nothing_beats() -> None:
    assert [member.uid for member in FRONT] == ["t1", "t3", "t2", "t0"]
    assert FRONT.baseline is BASELINE


@pytest.mark.parametrize("status", ["failed", "running", "stopped early", "interrupted"])
def test_only_complete_trials_count(status: Status) -> None:
    assert len(Front.of([trial(9, 1, 0.1, 1.0, status=status)], OBJECTIVES)) == 0


def test_a_trial_without_a_reading_cannot_be_on_the_front() -> None:
    blind = Trial("b", 5, Plan(), 0, "complete", readings={"size": Reading(1, "B")})
    assert len(Front.of([blind], OBJECTIVES)) == 0


def test_hypervolume_of_one_point_is_the_box_to_the_reference() -> None:
    # a quarter of the size, half the latency, one point less accurate: log2(4) x log2(2) x 0.9 of ten points
    front = Front.of([BASELINE, MIDDLE], OBJECTIVES)
    assert front.hypervolume == pytest.approx(2 * 1 * 0.9)


def test_a_limit_in_milliseconds_is_held_against_the_absolute_time() -> None:
    assert FRONT.pick(prefer="accuracy", at_most={"latency": "0.6ms"}) is MIDDLE
    assert FRONT.pick(prefer="accuracy", at_most={"latency": "300us"}) is FAST
    with pytest.raises(WrongInput, match=r"latency 0\.250x, 250 µs"):
        FRONT.pick(at_most={"latency": "0.2ms"})
    limited = Front.of(FRONT.trials, OBJECTIVES, limits=parse_limits([{"meter": "latency", "at_most": "0.5ms"}]))
    assert {member.uid for member in limited} == {"t2", "t3"}
    wish = Wish.from_document({"prefer": "size", "at_most": {"latency": "0.4ms"}})
    assert FRONT.pick(prefer=wish.prefer, at_least=wish.at_least, at_most=wish.at_most) is FAST


def test_the_machines_of_the_front_are_named_once() -> None:
    details: dict[str, Detail] = {"machine": "node-3", "cpu": "AMD EPYC"}
    timed = replace(MIDDLE, readings={**MIDDLE.readings, "latency": Reading(0.5, "ratio", details=details)})
    assert timed_on(Front.of([BASELINE, timed, SMALL], OBJECTIVES)) == ["node-3, AMD EPYC"]
    assert timed_on(FRONT) == []


def test_the_knee_is_the_balanced_point() -> None:
    assert FRONT.knee().uid == "t3"


def test_the_knee_is_farthest_from_the_plane_and_not_the_one_whose_worst_axis_is_best() -> None:
    two = (OBJECTIVES[0], OBJECTIVES[2])
    small, baseline = trial(1, 62.5, 1.0, 0.88), trial(0, 1000, 1.0, 0.98, role="baseline")
    far = trial(2, 1000 * 2**-3.6, 1.0, 0.92)  # scaled axes 0.1 and 0.6
    even = trial(3, 250, 1.0, 0.93)  # 0.5 and 0.5: a smaller largest axis, and on the plane itself
    front = Front.of([baseline, small, far, even], two)
    assert {member.uid for member in front} == {"t0", "t1", "t2", "t3"}
    assert front.knee() is far


def test_a_point_beyond_a_limit_adds_nothing_to_the_hypervolume() -> None:
    limits = parse_limits([{"meter": "accuracy", "at_least": "95%"}])
    inside, beyond = trial(5, 500, 0.5, 0.96), trial(6, 1, 0.01, 0.94)
    alone = Front.of([BASELINE, inside], OBJECTIVES, limits=limits)
    both = Front.of([BASELINE, inside, beyond], OBJECTIVES, limits=limits)
    assert both.hypervolume == alone.hypervolume > 0
    assert Front.of([BASELINE, inside, beyond], OBJECTIVES).hypervolume > alone.hypervolume


def test_wishes_choose_by_limits_and_preference() -> None:
    assert FRONT.pick(prefer="size").uid == "t1"
    assert FRONT.pick(prefer="latency").uid == "t2"
    assert FRONT.pick(prefer="size", at_least={"accuracy": "96%"}).uid == "t3"
    assert FRONT.pick(prefer="accuracy", at_most={"size": "0.3kB"}).uid == "t3"
    assert FRONT.pick(prefer="accuracy", at_most={"latency": "0.3ms"}).uid == "t2"
    assert FRONT.pick(prefer="accuracy", at_most={"latency": 0.3}).uid == "t2"


def test_a_wish_that_nothing_meets_names_the_nearest() -> None:
    with pytest.raises(WrongInput, match="no member of the front has size at most 100 B") as caught:
        FRONT.pick(at_most={"size": "100B"})
    assert "nearest are t1" in str(caught.value)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"prefer": "sise"}, "did you mean 'size'"),
        ({"at_most": {"sise": "1kB"}}, "did you mean 'size'"),
        ({"at_most": {"size": "2ms"}}, "measured in 'B', not in 's'"),
        ({"at_most": {"size": "2 lightyears"}}, "known units"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wish: dict[str, object], message: str) -> None:
    with pytest.raises(WrongInput, match=message):
        FRONT.pick(**wish)


def test_an_empty_front_says_so() -> None:
    with pytest.raises(WrongInput, match="the front is empty"):
        Front.of([], OBJECTIVES).pick()


def test_trials_survive_the_round_trip() -> None:
    assert Trial.from_document(MIDDLE.to_document()) == MIDDLE


def test_axes_compare_quantities_by_ratio_and_shares_by_points() -> None:
    assert Objective("size", "min", "B").axis(250, 1000) == -2
    assert Objective("throughput", "max", "samples/s").axis(4000, 1000) == -2
    assert Objective("accuracy", "max", "share").axis(0.93, 0.98) == pytest.approx(0.5)
