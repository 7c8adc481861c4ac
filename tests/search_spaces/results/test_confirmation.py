"""Confirmations: mean, spread and winner's curse, worked out by hand."""

import pytest

from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.confirmation import confirmation_document, confirmations, winners_curse
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Status, Trial
from paretta.search_spaces.space.plan import Plan

OBJECTIVES = (Objective("size", "min", "B"), Objective("accuracy", "max", "share"))


def trial(uid: str, size: float, accuracy: float, *, of: str | None = None, status: Status = "complete") -> Trial:
    readings = {"size": Reading(size, "B"), "accuracy": Reading(accuracy, "share")} if status == "complete" else {}
    return Trial(uid, 1, Plan(), 0, status, role="confirmation" if of else "trial", of=of, readings=readings)


A = trial("a", 100, 0.90).with_test_readings({"accuracy": Reading(0.87, "share")})
B = trial("b", 200, 0.96).with_test_readings({"accuracy": Reading(0.95, "share")})
AGAIN = [
    trial("a1", 100, 0.88, of="a"),
    trial("a2", 100, 0.84, of="a"),
    trial("b1", 220, 0.98, of="b"),
    trial("b2", 0, 0, of="b", status="failed"),
    trial("b3", 0, 0, of="b", status="running"),
]
FRONT = Front.of([A, B, *AGAIN], OBJECTIVES)


def test_only_the_members_stand_on_the_front() -> None:
    assert [member.uid for member in FRONT] == ["a", "b"]


def test_mean_and_spread_over_the_fresh_seeds() -> None:
    found = {(c.uid, c.objective.meter): c for c in confirmations(FRONT)}
    assert found["a", "accuracy"].mean == pytest.approx(0.86)
    assert found["a", "accuracy"].spread == pytest.approx(0.02 * 2**0.5)  # deviations of 0.02 each, n - 1 = 1
    assert found["b", "accuracy"].fresh == (0.98,)
    assert found["b", "accuracy"].spread is None
    assert found["b", "size"].mean == 220


def test_the_curse_is_positive_where_claims_were_too_good() -> None:
    curses = {curse.objective.meter: curse for curse in winners_curse(FRONT)}
    assert curses["accuracy"].seeds == pytest.approx(((0.90 - 0.86) + (0.96 - 0.98)) / 2)
    assert curses["accuracy"].test == pytest.approx(((0.90 - 0.87) + (0.96 - 0.95)) / 2)
    assert curses["size"].seeds == pytest.approx((0 + 20) / 2)  # larger than claimed is worse than claimed
    assert curses["size"].test is None


def test_as_plain_data() -> None:
    document = confirmation_document(FRONT)
    assert [(m["uid"], m["num_failed"]) for m in document["confirmations"]] == [("a", 0), ("b", 1)]
    assert document["confirmations"][1]["readings"]["accuracy"]["num_seeds"] == 1
    assert confirmation_document(Front.of([], OBJECTIVES)) == {"confirmations": [], "winners_curse": {}}


def test_without_confirmations_the_test_split_still_tells() -> None:
    (curse,) = winners_curse(Front.of([A, B], OBJECTIVES))
    assert (curse.objective.meter, curse.seeds, curse.test) == ("accuracy", None, pytest.approx(0.02))


def test_a_confirmation_survives_the_round_trip_and_older_documents_are_read() -> None:
    assert Trial.from_document(AGAIN[0].to_document()) == AGAIN[0]
    assert "of" not in A.to_document()
    assert Trial.from_document(A.to_document()).of is None
