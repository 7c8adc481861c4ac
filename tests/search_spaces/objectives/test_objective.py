"""One scale for every objective rises with the loss, through zero and across signs; a better point never hurts."""

import math
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from paretta.search_spaces.objectives.objective import Goal, Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.plan import Plan

UNITS = ("B", "s", "ratio", "share", "errors", "dB", "degC^2")
VALUES = st.floats(-1e9, 1e9)
GOALS = st.sampled_from(get_args(Goal))


@given(goal=GOALS, unit=st.sampled_from(UNITS), values=st.lists(VALUES, min_size=2, max_size=20), baseline=VALUES)
def test_the_axis_rises_with_the_loss(goal: Goal, unit: str, values: list[float], baseline: float) -> None:
    objective = Objective("x", goal, unit)
    places = [objective.axis(value, baseline) for value in sorted(values, key=objective.loss)]
    assert all(math.isfinite(place) for place in places)
    assert all(after >= before - 1e-9 * abs(before) for before, after in pairwise(places))
    assert objective.axis(baseline, baseline) == 0


@given(baseline=st.floats(1e-6, 1e9), ratio=st.floats(1 / 1024, 1024), factor=st.floats(1e-6, 1e6))
def test_ratios_are_what_they_were_and_units_do_not_matter(baseline: float, ratio: float, factor: float) -> None:
    value, size, rate = baseline * ratio, Objective("size", "min", "B"), Objective("rate", "max", "samples/s")
    assume(value >= baseline / 1024)
    assert size.axis(value, baseline) == pytest.approx(math.log2(ratio), abs=1e-9)
    assert rate.axis(value, baseline) == pytest.approx(-math.log2(ratio), abs=1e-9)
    for value in (ratio * baseline, 0.0, -ratio * baseline):
        assert size.axis(factor * value, factor * baseline) == pytest.approx(size.axis(value, baseline), abs=1e-6)


@given(value=st.floats(0, 1), baseline=st.floats(0, 1))
def test_shares_go_in_steps_of_ten_points(value: float, baseline: float) -> None:
    assert Objective("accuracy", "max", "share").axis(value, baseline) == pytest.approx((baseline - value) * 10)


@given(goal=GOALS, value=VALUES, baseline=VALUES)
def test_the_other_goal_is_the_mirror_image(goal: Goal, value: float, baseline: float) -> None:
    other: Goal = "max" if goal == "min" else "min"
    mirrored = Objective("x", other, "dB").axis(-value, -baseline)
    assert Objective("x", goal, "dB").axis(value, baseline) == pytest.approx(mirrored, abs=1e-9)


@pytest.mark.parametrize("baseline", [2.0, 0.02])
def test_no_error_at_all_beats_every_other_count_of_errors(baseline: float) -> None:
    errors = Objective("errors", "min", "errors")
    places = [errors.axis(value, baseline) for value in (0.0, baseline / 1e6, baseline / 64, baseline / 2, baseline)]
    assert places == sorted(set(places))
    assert places[2:] == [-6.0, -1.0, 0.0]


def trial(number: int, size: float, answer: float, unit: str) -> Trial:
    readings = {"size": Reading(size, "B"), "answer": Reading(answer, unit)}
    role = "baseline" if number == 0 else "trial"
    return Trial(f"t{number}", number, Plan(), 0, "complete", role=role, readings=readings)  # type: ignore[arg-type]


def volume(goal: Goal, unit: str, points: list[tuple[float, float]]) -> float:
    objectives = (Objective("size", "min", "B"), Objective("answer", goal, unit))
    return Front.of([trial(n, *point, unit) for n, point in enumerate(points)], objectives).hypervolume


POINTS = st.lists(st.tuples(st.floats(1, 1000), st.floats(-10, 10)), min_size=1, max_size=6)


@given(points=POINTS, gain=st.tuples(st.floats(0, 1), st.floats(0, 10)), goal=GOALS, unit=st.sampled_from(UNITS))
def test_a_better_point_never_lowers_the_hypervolume(
    points: list[tuple[float, float]], gain: tuple[float, float], goal: Goal, unit: str
) -> None:
    """Nor does one more point, whatever it is."""
    first, *rest = [(1000.0, 0.5), *points]
    size, answer = rest[-1]
    better = (size * (1 - gain[0]) + 1e-3, answer - gain[1] if goal == "min" else answer + gain[1])
    assume(better[0] <= size)
    before = volume(goal, unit, [first, *rest])
    assert volume(goal, unit, [first, *rest[:-1], better]) >= before * (1 - 1e-9)
    assert before >= volume(goal, unit, [first, *rest[:-1]]) * (1 - 1e-9)


def test_a_loss_has_room_to_get_worse_as_accuracy_has() -> None:
    """A model 20 times smaller whose loss rose by a tenth is worth something: log2(20) doublings x 1 - log2(1.1)."""
    found = volume("min", "degC^2", [(100_000, 0.30), (5_000, 0.33)])
    assert found == pytest.approx(math.log2(20) * (1 - math.log2(1.1)))
    assert volume("min", "degC^2", [(100_000, 0.30), (5_000, 0.61)]) == 0
