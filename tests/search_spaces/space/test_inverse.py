"""The answers that fill a space are recovered from the plan, and no other plan has any."""

import random

from hypothesis import given
from hypothesis import strategies as st

from paretta.orchestrator.search.suggester import _RandomAsker
from paretta.search_spaces.space.inverse import knobs_of
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import Recorder, Space

SPACE = Space.parse(
    [],
    [
        {"choice": [None, {"kind": "prune", "sparsity": {"float": [0.1, 0.9]}}]},
        {
            "kind": "quantize",
            "bits": {"conv*": {"int": [2, 8], "step": 2}, "*": 8},
            "rounding": {"choice": ["nearest", {"kind": "learned", "steps": {"int": [1, 5]}}]},
        },
        {"choice": [{"kind": "train", "lrs": [0.1, {"choice": [0.01, 0.001]}]}, {"kind": "train", "lrs": []}]},
    ],
)


@given(st.integers(0, 2**32 - 1))
def test_the_answers_are_found_again(seed: int) -> None:
    recorder = Recorder(_RandomAsker(random.Random(seed)))
    plan = SPACE.fill(recorder)
    assert knobs_of(SPACE, plan) == recorder.knobs


def test_a_plan_from_elsewhere_is_not() -> None:
    quantize = {"kind": "quantize", "bits": {"conv*": 3, "*": 8}, "rounding": "nearest"}
    assert knobs_of(SPACE, Plan((), (quantize, {"kind": "train", "lrs": []}))) is None  # 3 is not in steps of 2
    assert knobs_of(SPACE, Plan((), ({**quantize, "bits": {"conv*": 4, "*": 8}},))) is None  # a stage is missing
