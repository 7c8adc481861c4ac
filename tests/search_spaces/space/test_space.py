"""Spaces: parsing, filling, corners, knobs, cardinality."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.holes import Choice, Float, Hole, Int, Label
from paretta.search_spaces.space.space import MAX_OPTIONS, Recorder, Space
from paretta.search_spaces.space.variation import tried

SPACE = [
    {"kind": "prune", "sparsity": {"float": [0.0, 0.5]}, "importance": {"choice": ["l1", "l2"]}},
    {"choice": [None, {"kind": "cluster", "values": {"int": [2, 16], "log": True}}, {"kind": "prune", "steps": 3}]},
    {"kind": "quantize", "bits": {"conv*": {"int": [2, 8], "step": 2}, "*": 8}},
]


class RandomAsker:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def ask(self, name: str, hole: Hole) -> Label:
        if isinstance(hole, Choice):
            return self.random.choice(hole.labels)
        if isinstance(hole, Int):
            return self.random.randrange(hole.low, hole.high + 1, hole.step)
        return self.random.uniform(hole.low, hole.high)


def test_fill_asks_only_reachable_holes_and_drops_absent_stages() -> None:
    space = Space.parse([], SPACE)
    for seed in range(30):
        recorder = Recorder(RandomAsker(seed))
        plan = space.fill(recorder)
        chosen = recorder.knobs["step2"]
        kinds = [stage["kind"] for stage in plan.stages]
        assert kinds == ["prune", *([] if chosen is None else [chosen]), "quantize"]
        assert ("cluster.values" in recorder.knobs) == (chosen == "cluster")


def test_knobs_are_those_that_fill_asks_for_under_their_conditions() -> None:
    space = Space.parse([], SPACE)
    knobs = {knob.name: knob for knob in space.knobs()}
    asked: set[str] = set()
    for seed in range(50):
        recorder = Recorder(RandomAsker(seed))
        space.fill(recorder)
        asked |= set(recorder.knobs)
        for name in recorder.knobs:
            assert all(recorder.knobs[given] == label for given, label in knobs[name].given)
    assert asked == set(knobs)
    assert knobs["cluster.values"].given == (("step2", "cluster"),)
    assert knobs["prune@step1.sparsity"].given == ()


def test_two_stages_of_one_kind_in_different_branches_keep_names_apart() -> None:
    two = [{"choice": [None, {"kind": "prune", "s": {"float": [0, 0.5]}}]}, {"kind": "prune", "s": {"float": [0, 0.9]}}]
    holes = {knob.name: knob.hole for knob in Space.parse([], two).knobs()}
    assert holes["prune@step1.s"] == Float(0, 0.5)
    assert holes["prune@step2.s"] == Float(0, 0.9)


def test_corners_reach_every_option_and_both_ends_of_every_range() -> None:
    stages = [stage for plan in Space.parse([], SPACE).corners() for stage in plan.stages]
    pruned = [stage for stage in stages if stage["kind"] == "prune" and "sparsity" in stage]
    assert {stage["sparsity"] for stage in pruned} == {0.0, 0.5}
    assert {stage["importance"] for stage in pruned} == {"l1", "l2"}
    assert {stage["values"] for stage in stages if stage["kind"] == "cluster"} == {2, 16}
    assert {stage["steps"] for stage in stages if "steps" in stage} == {3}
    bits = {stage["bits"]["conv*"] for stage in stages if stage["kind"] == "quantize"}
    assert bits == {2, 8}


def test_corners_of_nested_choices_stay_linear() -> None:
    wide = [{"kind": "x", **{f"k{i}": {"choice": [1, 2, 3]} for i in range(20)}}]
    assert len(list(Space.parse([], wide).corners())) <= 2 * (1 + 20 * 3)


def test_corners_of_a_very_wide_space_are_sampled() -> None:
    wide = Space.parse([], [{"kind": "x", "a": {"choice": list(range(5000))}, "b": {"choice": list(range(5000))}}])
    plans = list(wide.corners())
    assert len(plans) <= 2 * MAX_OPTIONS
    for knob in ("a", "b"):
        found = sorted({plan.stages[0][knob] for plan in plans})
        assert found[0] == 0
        assert found[-1] == 4999
        assert max(high - low for low, high in itertools.pairwise(found)) < 5000 / 100


def test_what_is_tried_has_every_option_and_inner_points_of_ranges() -> None:
    stages = [stage for plan in tried(Space.parse([], SPACE), 1000) for stage in plan.stages]
    sparsities = {stage["sparsity"] for stage in stages if "sparsity" in stage}
    assert {0.0, 0.25, 0.5} <= sparsities
    assert {stage["values"] for stage in stages if "values" in stage} >= {2, 16}
    assert len({stage["values"] for stage in stages if "values" in stage}) == 9
    assert {stage["bits"]["conv*"] for stage in stages if stage["kind"] == "quantize"} == {2, 4, 6, 8}


def test_what_is_tried_of_a_wide_space_stays_few() -> None:
    options = [{"kind": "x", "n": n, "r": {"float": [0, 1]}} for n in range(2000)]
    assert len(list(tried(Space.parse([], [{"choice": options}]), 1000))) < 10_000


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_cardinality_is_the_number_of_distinct_plans(widths: list[int]) -> None:
    stage = {"kind": "x", **{f"k{i}": {"choice": list(range(width))} for i, width in enumerate(widths)}}
    space = Space.parse([], [stage])
    plans = {tuple(values) for values in itertools.product(*(range(width) for width in widths))}
    assert space.cardinality() == len(plans) == math.prod(widths)


def test_cardinality_adds_up_branches_and_is_infinite_with_reals() -> None:
    branch = [{"choice": [None, {"kind": "x", "n": {"int": [1, 5]}}]}]
    assert Space.parse([], branch).cardinality() == 6
    assert Space.parse([], SPACE).cardinality() == math.inf


@pytest.mark.parametrize(
    ("hole", "rule"),
    [
        ({"float": [1, 0]}, "from low to high"),
        ({"int": [1.5, 2]}, "two whole numbers"),
        ({"int": [1]}, "two whole numbers"),
        ({"float": ["a", 2]}, "two numbers"),
        ({"float": [0, 1], "log": True}, "starts above 0"),
        ({"float": [0, 1], "lag": True}, "takes only log"),
        ({"int": [1, 9], "log": True, "step": 2}, "no step"),
        ({"int": [1, 9], "step": 0}, "at least 1"),
        ({"choice": []}, "at least one option"),
        ({"choice": "ab"}, "at least one option"),
        ({"choice": [1, 1.0]}, "must differ"),
        ({"float": [0, float("inf")]}, "two numbers"),
    ],
)
def test_a_hole_that_cannot_be_is_refused_with_its_place(hole: dict[str, object], rule: str) -> None:
    with pytest.raises(WrongInput) as caught:
        Space.parse([], [{"kind": "prune", "sparsity": hole}])
    (problem,) = caught.value.problems
    assert rule in problem.rule
    assert problem.where.startswith("space[0].sparsity")


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(WrongInput) as caught:
        Space.parse([], [{"kind": "a", "x": {"int": [2, 1]}}, {"no": "kind"}, 3, {"kind": 3}])
    assert len(caught.value.problems) == 4
    assert str(caught.value.problems[3]) == "space[3].kind: must be the name of a stage; got 3; write kind: prune"


def test_labels_are_unique_scalars() -> None:
    choice = Choice(({"kind": "a", "n": 1}, {"kind": "a", "n": 2}, {"x": 1}, None, 4))
    assert choice.labels == ("a#0", "a#1", "option2", None, 4)
    assert choice.option("a#1") == {"kind": "a", "n": 2}


def test_a_stage_of_ones_own_is_named_by_what_stands_behind_the_colon() -> None:
    mine = {"kind": "./mine.py:Mine", "x": {"float": [0, 1]}}
    assert [knob.name for knob in Space.parse([], [mine]).knobs()] == ["Mine.x"]
    others = [mine, {**mine, "kind": "their.module:Mine"}]
    assert [knob.name for knob in Space.parse([], others).knobs()] == ["Mine@step1.x", "Mine@step2.x"]
