"""Sure dominance is a strict partial order that implies plain dominance; the front lists undecided trials by it."""

from itertools import permutations, product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.pareto import non_dominated
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.objectives.sure_dominance import Spread
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.plan import Plan

few = st.integers(0, 6)
point = st.lists(st.lists(few, min_size=3, max_size=3).map(sorted), min_size=2, max_size=2)
clouds = st.lists(point, min_size=1, max_size=7)


def spread(cloud: list[list[list[int]]]) -> Spread:
    ends = np.array(cloud, dtype=np.float64)
    return Spread(ends[..., 0], ends[..., 1], ends[..., 2])


def relation(cloud: list[list[list[int]]]) -> set[tuple[int, int]]:
    """The definition read out loud, pair by pair, without numpy."""

    def dominates(a: list[list[int]], b: list[list[int]]) -> bool:
        no_worse = all(x <= y for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True))
        return no_worse and any(one[2] < other[0] for one, other in zip(a, b, strict=True))

    return {(i, j) for i, j in product(range(len(cloud)), repeat=2) if dominates(cloud[i], cloud[j])}


@given(clouds)
def test_it_is_what_the_definition_says(cloud: list[list[list[int]]]) -> None:
    found, everyone = spread(cloud), np.arange(len(cloud))
    marks = {(int(i), j) for j in range(len(cloud)) for i in np.flatnonzero(found.dominates(everyone, j))}
    assert marks == relation(cloud)


@given(clouds)
def test_it_is_irreflexive_asymmetric_and_transitive(cloud: list[list[list[int]]]) -> None:
    pairs = relation(cloud)
    assert not any((i, i) in pairs for i in range(len(cloud)))
    assert not any((j, i) in pairs for i, j in pairs)
    assert all((i, k) in pairs for (i, j), (j2, k) in permutations(pairs, 2) if j == j2)


@given(clouds)
def test_what_nothing_surely_dominates_holds_the_plain_front(cloud: list[list[list[int]]]) -> None:
    found = spread(cloud)
    beaten = {j for _, j in relation(cloud)}
    assert found.undominated().tolist() == [row not in beaten for row in range(len(cloud))]
    assert (found.undominated() | ~non_dominated(found.value)).all()


@given(st.lists(st.lists(few, min_size=2, max_size=2), min_size=1, max_size=8))
def test_exact_values_give_the_plain_front(losses: list[list[int]]) -> None:
    values = np.array(losses, dtype=np.float64)
    assert Spread(values, values, values).undominated().tolist() == non_dominated(values).tolist()


def test_by_value_alone_it_would_not_be_transitive() -> None:
    # estimates 1 < 2 < 3, the first apart from the second, but within the wide interval of the third
    cloud = [[[0, 1, 1]], [[2, 2, 2]], [[0, 3, 6]]]
    assert relation(cloud) == {(0, 1)}


OBJECTIVES = (Objective("size", "min", "B"), Objective("accuracy", "max", "share"))


def trial(number: int, size: float, accuracy: float, half: float) -> Trial:
    readings = {
        "size": Reading(size, "B"),
        "accuracy": Reading(accuracy, "share", low=accuracy - half, high=accuracy + half),
    }
    return Trial(f"t{number}", number, Plan(), 0, "complete", readings=readings)


def test_the_front_shows_what_is_not_distinguishable_from_it() -> None:
    best, twin, noisy, worse = (
        trial(1, 100, 0.95, 0.02),
        trial(2, 100, 0.94, 0.02),  # same size and overlapping accuracies are undecided
        trial(3, 120, 0.955, 0.02),  # larger and more accurate: a member of the plain front
        trial(4, 130, 0.90, 0.02),  # surely larger and surely less accurate
    )
    front = Front.of([best, twin, noisy, worse], OBJECTIVES)
    assert [member.uid for member in front] == ["t1", "t3"]
    assert [uncertain.uid for uncertain in front.undecided] == ["t2"]


def test_a_surely_larger_trial_with_no_better_accuracy_is_beaten() -> None:
    front = Front.of([trial(1, 100, 0.95, 0.02), trial(2, 101, 0.945, 0.02)], OBJECTIVES)
    assert front.undecided == ()


def test_confirmations_are_neither_members_nor_undecided() -> None:
    again = Trial("c", 1, Plan(), 1, "complete", role="confirmation", of="t1", readings=trial(9, 1, 0.99, 0).readings)
    front = Front.of([trial(1, 100, 0.95, 0.02), again], OBJECTIVES)
    assert [member.uid for member in front] == ["t1"]
    assert front.undecided == ()
