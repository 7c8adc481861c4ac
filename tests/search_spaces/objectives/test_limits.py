"""Limits: what can be written, what is refused, when they are met, and what a front makes of them."""

import pytest

from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.objectives.limits import Limit, parse_limits
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Role, Trial
from paretta.search_spaces.space.plan import Plan

OBJECTIVES = (
    Objective("size", "min", "B"),
    Objective("latency", "min", "ratio"),
    Objective("accuracy", "max", "share"),
)


def trial(uid: str, size: float, latency: float, accuracy: float, role: Role = "trial") -> Trial:
    readings = {
        "size": Reading(size, "B"),
        "latency": Reading(latency, "ratio", details={"seconds": latency / 100}),
        "accuracy": Reading(accuracy, "share"),
    }
    return Trial(uid, 0 if role == "baseline" else int(uid[1:]), Plan(), 0, "complete", role=role, readings=readings)


BASELINE = trial("baseline", 1000, 1.0, 0.98, "baseline")


def limit(meter: str, **bound: Json) -> Limit:
    return Limit.parse({"meter": meter, **bound})


@pytest.mark.parametrize(
    ("given", "meets", "misses"),
    [
        (limit("size", at_most="0.5kB"), (500, 9, 0), (501, 0, 1)),
        (limit("size", at_most=500), (500, 9, 0), (501, 0, 1)),
        (limit("size", at_most={"of_baseline": 0.25}), (250, 9, 0), (251, 0, 1)),
        (limit("size", at_most={"of_baseline": "25%"}), (250, 9, 0), (251, 0, 1)),
        (limit("size", at_most={"below_baseline": "400B"}), (600, 9, 0), (601, 0, 1)),
        (limit("size", at_most={"above_baseline": "10B"}), (1010, 9, 0), (1011, 0, 1)),
        (limit("latency", at_most={"of_baseline": 0.5}), (1, 0.5, 0), (1, 0.51, 0)),
        (limit("latency", at_most="5ms"), (1, 0.5, 0), (1, 0.51, 0)),
        (limit("accuracy", at_least="97%"), (1, 1, 0.97), (1, 1, 0.969)),
        (limit("accuracy", at_least={"below_baseline": "1.5%"}), (1, 1, 0.966), (1, 1, 0.964)),
        (limit("accuracy", at_least={"of_baseline": 0.5}), (1, 1, 0.49), (1, 1, 0.48)),
    ],
)
def test_a_limit_is_met_up_to_its_bound(
    given: Limit, meets: tuple[float, float, float], misses: tuple[float, float, float]
) -> None:
    assert given.check(OBJECTIVES) == []
    front = Front.of([BASELINE, trial("t1", *meets), trial("t2", *misses)], OBJECTIVES, limits=[given])
    assert front.missed_by(front.trials[1]) == 0
    assert front.missed_by(front.trials[2]) > 0


@pytest.mark.parametrize(
    ("document", "messages"),
    [
        ({"meter": "size"}, ["one of `at_least` and `at_most`", "{meter: size, at_most: 50kB}"]),
        ({"meter": "size", "at_most": 1, "at_least": 2}, ["one of `at_least` and `at_most`"]),
        ({"meter": "size", "at_mots": 1}, ["limits[0].at_mots", "did you mean 'at_most'"]),
        ({"at_most": 1}, ["limits[0]", "`meter`"]),
        ("size < 3", ["limits[0]", "mapping"]),
        ({"meter": "size", "at_most": "50 parsec"}, ["limits[0].at_most", "unknown unit 'parsec'"]),
        ({"meter": "size", "at_most": [1]}, ["a number with an optional unit"]),
        ({"meter": "size", "at_most": True}, ["limits[0].at_most", "not a number"]),
        ({"meter": "size", "at_most": {"of_base": 1}}, ["of_baseline, below_baseline, above_baseline"]),
        ({"meter": "size", "at_most": {"of_baseline": 1, "below_baseline": 2}}, ["one of of_baseline"]),
        ({"meter": "size", "at_most": {"of_baseline": "3kB"}}, ["a factor has no unit"]),
    ],
)
def test_a_limit_that_cannot_be_read_is_refused(document: Json, messages: list[str]) -> None:
    with pytest.raises(WrongInput) as caught:
        parse_limits([document])
    assert all(message in str(caught.value) for message in messages), caught.value


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (limit("sise", at_most=3), "did you mean 'size'"),
        (limit("energy", at_most="3J"), "add it to `objectives`"),
        (limit("size", at_most="3ms"), "measured in 'B', not in 's'"),
        (limit("accuracy", at_least="3s"), "measured in 'share', not in 's'"),
        (limit("size", at_least="3kB"), "its limit is `at_most`"),
        (limit("accuracy", at_most=0.5), "its limit is `at_least`"),
        (limit("accuracy", at_least=97), "between 0 and 1"),
        (limit("size", at_most="-3kB"), "size is above 0, so its limit must be too; got -3000.0"),
        (limit("latency", at_most={"of_baseline": 0}), "latency is above 0"),
    ],
)
def test_a_limit_that_the_sweep_cannot_evaluate_is_refused(given: Limit, message: str) -> None:
    (problem,) = given.check(OBJECTIVES, "here")
    assert message in str(problem)
    assert problem.where == "here"


def test_a_relative_limit_is_missed_while_there_is_no_baseline() -> None:
    relative = limit("size", at_most={"of_baseline": 2})
    assert relative.bound(None) is None
    assert relative.excess(Reading(1, "B"), None) == float("inf")


SMALL, MIDDLE, LARGE = trial("t1", 100, 0.5, 0.90), trial("t2", 300, 0.5, 0.95), trial("t3", 600, 0.5, 0.97)
TRIALS = [BASELINE, SMALL, MIDDLE, LARGE]


def test_the_front_holds_what_meets_the_limits() -> None:
    front = Front.of(TRIALS, OBJECTIVES, limits=[limit("accuracy", at_least="95%"), limit("size", at_most=700)])
    assert [member.uid for member in front] == ["t2", "t3"]
    assert not front.best_effort
    assert front.pick(prefer="size").uid == "t2"


def test_when_nothing_meets_the_limits_the_best_effort_is_delivered_and_said_to_be_so() -> None:
    limits = [limit("accuracy", at_least="96%"), limit("size", at_most=300)]
    front = Front.of(TRIALS, OBJECTIVES, limits=limits)
    assert front.best_effort
    # by hand: t2 misses accuracy by 1/96, t1 by 6/96, t3 size by 300/300, the baseline by 700/300
    assert [member.uid for member in front] == ["t2", "t1", "t3", "baseline"]
    assert [front.missed_by(member) for member in front] == pytest.approx([1 / 96, 6 / 96, 1, 7 / 3])
    assert {front.pick(prefer=wish).uid for wish in ("knee", "size", "latency", "accuracy")} == {"t2"}
    assert front.knee().uid == "t2"


def test_without_limits_nothing_is_a_best_effort() -> None:
    assert not Front.of(TRIALS, OBJECTIVES).best_effort
    assert not Front.of([], OBJECTIVES, limits=[limit("size", at_most=1)]).best_effort
