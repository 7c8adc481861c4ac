"""What sweeps of other tasks say: knobs are matched by meaning, values are clipped, and too little is nothing."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from paretta.orchestrator.search.experience import Experience, PastResult, experience_of, gain_of
from paretta.orchestrator.search.losses import LossScale
from paretta.orchestrator.search.spec import Search
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.holes import Choice, Float, Int, Label
from paretta.search_spaces.space.space import Knob, Space

ACCURACY, LOSS = Objective("accuracy", "max", "share"), Objective("perplexity", "min", "nat")


def results(knobs: dict[str, Label], *, count: int = 10, sweep: str = "a", gain: float = 0.5) -> list[PastResult]:
    return [PastResult(sweep, knobs, {"accuracy": gain + 0.01 * number}) for number in range(count)]


def inputs(knob: Knob, *others: Knob, **given: Label) -> list[float]:
    """Return the first model input of each knob that results with these values have; double underscores are dots."""
    knobs = {name.replace("__", ".").replace("_at_", "@"): value for name, value in given.items()}
    found = experience_of(results(knobs), (knob, *others), ["accuracy"])
    assert found is not None
    return [round(value / 12**0.5 + 0.5, 3) for value in found.lessons.inputs[0].tolist()]


def test_a_gain_is_the_ratio_of_errors_or_a_difference_of_doublings() -> None:
    assert gain_of(LossScale(ACCURACY, 0.9, 1.0), 0.8) == pytest.approx(math.log(2))
    assert gain_of(LossScale(ACCURACY, 1.0, 1.0), 1.0) == 0.0
    assert gain_of(LossScale(LOSS, 2.0, 1.0), 4.0) == pytest.approx(1.0)


def test_a_knob_is_matched_wherever_its_stage_stands() -> None:
    weight = Knob("distill@step4.weight", Float(0.0, 1.0))
    assert inputs(weight, distill__weight=0.25) == [0.25]
    assert inputs(weight, distill_at_step2__weight=0.75) == [0.75]


def test_patterns_of_layers_are_matched_by_name_and_else_by_place() -> None:
    first, last = Knob("quantize.bits.conv*", Int(2, 8)), Knob("quantize.bits.fc*", Int(2, 8))
    named = {"quantize__bits__fc*": 2, "quantize__bits__conv*": 8}
    assert inputs(first, last, **named) == [1.0, 0.0]
    assert inputs(first, last, quantize__bits__body=5, quantize__bits__head=2) == [0.5, 0.0]
    assert inputs(first, last, quantize__bits=5) == [0.5, 0.5]
    assert inputs(Knob("quantize.bits", Int(2, 8)), quantize__bits__body=5, quantize__bits__head=2) == [0.5]


def test_values_beyond_the_range_count_as_its_end_and_unknown_ones_as_the_middle() -> None:
    rate = Knob("train.lr", Float(0.001, 0.1, log=True))
    assert [inputs(rate, train__lr=lr) for lr in (1e-5, 0.01, 3)] == [[0.0], [0.5], [1.0]]
    bits = Knob("quantize.bits", Choice((2, 4, 8)))
    assert [inputs(bits, quantize__bits=value) for value in (1, 3, 6, 8)] == [[0.0], [0.25], [0.75], [1.0]]
    assert inputs(bits, quantize__bits="none") == [0.5]


def test_a_choice_of_stages_is_matched_by_the_stages_it_offers() -> None:
    chosen = Knob("step3", Choice(({"kind": "quantize"}, None)))
    assert inputs(chosen, step1="quantize", step2="prune") == [0.0]
    assert experience_of(results({"step1": "prune"}), (chosen,), ["accuracy"]) is None


def test_few_results_few_shared_knobs_and_other_objectives_teach_nothing() -> None:
    knobs = tuple(Knob(name, Float(0.0, 1.0)) for name in ("prune.a", "prune.b", "prune.c"))
    assert experience_of(results({"prune.a": 0.5, "prune.b": 0.5}, count=9), knobs, ["accuracy"]) is None
    assert experience_of(results({"prune.a": 0.5}), knobs, ["accuracy"]) is None
    assert experience_of(results({"prune.a": 0.5, "prune.b": 0.5}), knobs, ["f1"]) is None
    assert experience_of(results({"prune.a": 0.5, "prune.b": 0.5}), knobs, []) is None
    found = experience_of(results({"prune.a": 0.5, "prune.b": 0.5}), knobs, ["accuracy"])
    assert str(found) == "learned from 1 sweep, 10 results"


def test_each_sweep_has_its_turn_and_the_latest_results_come_first() -> None:
    long = results({"prune.a": 0.1}, count=900, sweep="long", gain=-10.0)
    both = [*long, *results({"prune.a": 0.9}, count=50, sweep="short", gain=5.0)]
    found = experience_of(both, (Knob("prune.a", Float(0.0, 1.0)),), ["accuracy"])
    assert found is not None
    assert str(found) == "learned from 2 sweeps, 400 results"
    assert int((found.lessons.gains > 0).sum()) == 50
    assert found.lessons.gains[0, 0] == pytest.approx(-10.0 + 8.99)
    assert (found.lessons.inputs[1:100:2] > 0).all()


def test_the_order_in_which_results_name_their_knobs_changes_nothing() -> None:
    knobs = tuple(Knob(name, Float(0.0, 1.0)) for name in ("prune.a", "distill.b"))
    one = experience_of(results({"prune.a": 0.2, "distill.b": 0.7}), knobs, ["accuracy"])
    other = experience_of(results({"distill.b": 0.7, "prune.a": 0.2}), knobs, ["accuracy"])
    assert one is not None
    assert other is not None
    assert one.to_document() == other.to_document()


def test_it_comes_back_from_the_journal_as_it_was_and_gives_the_search_its_prior() -> None:
    space = Space.parse([], [{"kind": "prune", "sparsity": {"float": [0.0, 0.9]}}])
    past = [PastResult("a", {"prune.sparsity": 0.05 * n}, {"accuracy": 0.123456789 * n}) for n in range(15)]
    found = experience_of(past, space.knobs(), ["accuracy"])
    assert found is not None
    again = Experience.from_document(json.loads(json.dumps(found.to_document())))
    baseline = {"accuracy": Reading(0.9, "share")}
    search = Search(space, (ACCURACY,), 8, baseline=baseline, experience=found)
    priors = [replace(search, experience=each).problem().prior for each in (found, again)]
    at = found.lessons.inputs[:3]
    one, other = (prior.expect(at) for prior in priors if prior is not None)
    assert one.tolist() == other.tolist()
    assert one[:, 0] == pytest.approx(np.log(0.1) + found.lessons.gains[:3, 0], abs=0.1)
    assert replace(search, experience=None).problem().prior is None
