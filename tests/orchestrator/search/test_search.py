"""What a search knows before training: scales, foresight, good plans and budgets, and how it uses them."""

import random
from collections import deque
from collections.abc import Mapping

import numpy as np
import pytest

from paretta.orchestrator.config.budget import SearchBudget
from paretta.orchestrator.config.sections import BudgetConfig, GainConfig
from paretta.orchestrator.policy.candidate_table import CandidateTable
from paretta.orchestrator.policy.encoding import Coordinates
from paretta.orchestrator.policy.problem import Rungs
from paretta.orchestrator.samplers.random import make as make_random
from paretta.orchestrator.search.by_products import ByProducts
from paretta.orchestrator.search.first_plans import good_plans
from paretta.orchestrator.search.known_objectives import KnownObjectives
from paretta.orchestrator.search.losses import scales_of
from paretta.orchestrator.search.shared_prefix import shared_prefix_of
from paretta.orchestrator.search.spec import Search
from paretta.orchestrator.search.suggester import Suggester
from paretta.search_spaces.canonical import canonical_json
from paretta.search_spaces.objectives.limits import Limit
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import Pinned, Space
from paretta.search_spaces.space.variation import structural

SIZE, LATENCY = Objective("size", "min", "B"), Objective("latency", "min", "ratio")
ACCURACY, LOSS = Objective("accuracy", "max", "share"), Objective("perplexity", "min", "nat")
BASELINE = {
    "size": Reading(1000.0, "B"),
    "latency": Reading(1.0, "ratio", details={"seconds": 0.004}),
    "accuracy": Reading(0.98, "share"),
    "perplexity": Reading(2.0, "nat"),
}
SPACE = Space.parse(
    [],
    [
        {"kind": "prune", "sparsity": {"float": [0.0, 0.9]}},
        {"choice": [None, {"kind": "quantize", "bits": {"int": [2, 8]}}]},
        {"kind": "distill", "epochs": 3, "temperature": {"float": [1, 16], "log": True}},
    ],
)


def size_of(plan: Plan) -> float:
    stages = {str(stage["kind"]): stage for stage in plan.stages}
    sparsity, bits = float(str(stages["prune"]["sparsity"])), int(str(stages.get("quantize", {}).get("bits", 32)))
    return 1000.0 * (1.0 - sparsity) * bits / 32


def limit(meter: str, side: str, bound: object) -> Limit:
    return Limit.parse({"meter": meter, side: bound})  # type: ignore[dict-item]


def test_shares_become_errors_and_all_else_doublings() -> None:
    accuracy, size, loss = scales_of((ACCURACY, SIZE, LOSS), BASELINE)
    assert accuracy.learned(0.98) == pytest.approx(0.02)
    assert accuracy.as_learned().reference == pytest.approx(0.12)  # ten points less accurate
    assert (size.known(250.0), size.as_known().reference) == (-2.0, 0.0)
    assert (loss.learned(4.0), loss.as_learned().scale) == (1.0, "linear")


def test_limits_and_the_reference_move_the_box() -> None:
    bounds = [limit("size", "at_most", "250B"), limit("latency", "at_most", "2ms"), limit("accuracy", "at_least", 0.95)]
    size, latency, accuracy = scales_of((SIZE, LATENCY, ACCURACY), BASELINE, limits=bounds)
    assert size.as_known().limit == pytest.approx(-2.0)
    assert latency.as_known().limit == pytest.approx(-1.0)  # 2 of 4 ms
    assert accuracy.as_learned().limit == pytest.approx(0.05)
    (own,) = scales_of((ACCURACY,), BASELINE, reference=[limit("accuracy", "at_least", {"below_baseline": "3%"})])
    assert own.as_learned().reference == pytest.approx(0.05)


def test_estimates_follow_what_was_seen_and_looks_are_made_once() -> None:
    looks: list[Plan] = []

    def look(plan: Plan) -> Mapping[str, Reading]:
        looks.append(plan)
        return {"size": Reading(size_of(plan), "B")}

    knobs = structural(SPACE, lambda plan: canonical_json([s for s in plan.stages if s["kind"] != "distill"]))
    assert [knob.name for knob in knobs] == ["prune.sparsity", "step2", "quantize.bits"]
    foresight = KnownObjectives(SPACE, scales_of((SIZE,), BASELINE), look, knobs)
    assert foresight.estimate([{"prune.sparsity": 0.5, "step2": None}]).tolist() == [[0.0]]
    rng = random.Random(0)
    for _ in range(25):
        foresight.look(
            {"prune.sparsity": rng.uniform(0, 0.9), "step2": "quantize", "quantize.bits": rng.randrange(2, 9)}
        )
    config = {"prune.sparsity": 0.4, "step2": "quantize", "quantize.bits": 4, "distill.temperature": 2.0}
    expected = np.log2(0.6 * 4 / 32)
    assert foresight.estimate([config])[0, 0] == pytest.approx(expected, abs=0.3)
    assert foresight.look(config) == pytest.approx(expected)
    foresight.look(config)
    assert len(looks) == foresight.num_looks == 26


def test_knobs_that_leave_the_structure_alone_are_estimated_by_the_mean_of_what_was_seen() -> None:
    space = Space.parse([], [{"kind": "train", "epochs": 1, "lr": {"float": [0.001, 0.1]}}])
    knobs = structural(space, lambda plan: "always the same")
    assert knobs == ()
    scales = scales_of((SIZE,), BASELINE)
    foresight = KnownObjectives(space, scales, lambda plan: {"size": Reading(500.0, "B")}, knobs)
    for rate in (0.001, 0.002, 0.004, 0.008):
        assert foresight.look({"train.lr": rate}) == pytest.approx([-1.0])
    assert foresight.estimate([{"train.lr": 0.05}, {"train.lr": 0.09}]).tolist() == [[-1.0], [-1.0]]


def test_what_cannot_be_carried_out_is_never_proposed() -> None:
    foresight = KnownObjectives(SPACE, scales_of((SIZE,), BASELINE), lambda plan: None, SPACE.knobs())
    assert foresight.look({"prune.sparsity": 0.1, "step2": None}) is None
    assert not foresight.keeps({"prune.sparsity": 0.1, "step2": None})


def test_good_plans_are_said_in_the_spaces_own_knobs() -> None:
    plans = [SPACE.fill(Pinned(knobs)).stages for knobs in good_plans(SPACE)]
    kinds = [[str(stage["kind"]) for stage in stages] for stages in plans]
    assert kinds == [["prune", "quantize", "distill"], ["prune", "distill"], ["prune", "quantize", "distill"]]
    assert [stages[0]["sparsity"] for stages in plans] == [0.0, 0.5, 0.5]
    assert plans[0][1]["bits"] == 8
    assert plans[0][-1]["temperature"] == 4.0
    assert good_plans(Space.parse([], [{"kind": "train", "epochs": {"int": [1, 3]}}])) == ()


def suggester(num_trials: int = 6, first: tuple[Mapping[str, object], ...] = ()) -> Suggester:
    objectives = (SIZE, ACCURACY)
    search = Search(SPACE, objectives, num_trials, baseline={o.meter: BASELINE[o.meter] for o in objectives})
    return Suggester(search, make_random(search), first=deque(first))  # type: ignore[arg-type]


def test_what_is_to_be_tried_first_comes_first() -> None:
    search = suggester(first=good_plans(SPACE))
    first = [search.ask() for _ in range(3)]
    assert [suggestion.knobs for suggestion in first if suggestion] == list(good_plans(SPACE))
    assert search.ask() is not None


def test_points_from_elsewhere_take_no_trial_and_are_not_run_again() -> None:
    search = suggester(num_trials=2)
    inside, outside = (SPACE.fill(Pinned(good_plans(SPACE)[0])), Plan((), ({"kind": "prune", "sparsity": 0.95},)))
    search.add_point(inside, [100.0, -0.97])
    search.add_point(outside, [50.0, -0.9])
    assert search.asked == []
    assert not search.reserve(inside)
    suggestion = search.ask()
    assert suggestion is not None
    assert suggestion.plan.fingerprint != inside.fingerprint
    search.tell(suggestion.key, [2000.0, -0.5])
    assert search.volumes[-1] > 0  # of the two points, since the trial is beyond the reference
    assert search.ask() is not None
    assert search.ask() is None


def test_by_products_are_new_and_few() -> None:
    search = suggester()
    suggestion = search.ask()
    assert suggestion is not None
    variants = tuple(({"kind": "quantize", "bits": bits},) for bits in (8, 6, 4))
    made = ByProducts(variants, at_most=2)
    plans = made.reserved(suggestion.plan, search)
    assert [plan.stages[-1]["bits"] for plan in plans] == [8, 6]
    assert [plan.stages[-1]["bits"] for plan in made.reserved(suggestion.plan, search)] == [4]
    search.add_point(plans[0], [10.0, -0.97])
    assert search.known[plans[0].fingerprint].verdict == "complete"


@pytest.mark.parametrize(
    ("config", "volumes", "hours", "words"),
    [
        (BudgetConfig(hours=2.0), [], 1.9, None),
        (BudgetConfig(hours=2.0), [], 2.1, "2 hours"),
        (BudgetConfig(cpu_hours=6.0), [], 1.6, "6 CPU hours"),
        (BudgetConfig(gpu_hours=6.0), [], 1.6, None),
        (BudgetConfig(gain=GainConfig(under=0.05, over=2)), [1.0, 1.1, 1.12, 1.13], 0.0, "gained 2.7%"),
        (BudgetConfig(gain=GainConfig(under=0.02, over=2)), [1.0, 1.1, 1.12, 1.13], 0.0, None),
        (BudgetConfig(gain=GainConfig(under=0.5, over=4)), [1.0, 1.1, 1.12, 1.13], 0.0, None),
    ],
)
def test_the_first_limit_that_is_reached_ends_the_search(
    config: BudgetConfig, volumes: list[float], hours: float, words: str | None
) -> None:
    said = SearchBudget(config, cpus=4.0, gpus=0.0, began=1000.0).spent(volumes, now=1000.0 + 3600.0 * hours)
    assert said is None if words is None else said is not None and words in said


def test_a_search_that_is_over_asks_no_more() -> None:
    search = suggester()
    search.over = "the budget is spent"
    assert search.ask() is None
    assert search.finished


def test_what_precedes_the_last_training_is_shared_and_then_costs_nothing() -> None:
    train = {"kind": "train", "epochs": 5, "lr": 0.1}
    pruned = {"kind": "prune", "sparsity": {"choice": [0.25, 0.5]}}
    quantized = {"kind": "quantize", "bits": {"int": [2, 8]}}
    space = Space.parse([train], [pruned, train, quantized, {"kind": "distill", "epochs": 3}])
    rungs = Rungs((1.0, 3.0), (1.25, 3.25))
    search = Search(space, (ACCURACY,), 9, baseline=BASELINE, rungs=rungs, beginning=shared_prefix_of)
    problem = search.problem()
    assert problem.prefix is not None
    knobs = [{"prune.sparsity": sparsity, "quantize.bits": bits} for sparsity, bits in ((0.5, 4), (0.5, 4), (0.25, 4))]
    first, again, other = (problem.prefix(config) for config in knobs)
    assert first == again != other
    assert first is not None
    assert first.cost == 5.0

    coordinates = Coordinates(problem.knobs)
    catalogue = CandidateTable(problem, coordinates)
    places = catalogue.look(np.array([coordinates.encode(config) for config in knobs[1:]]))
    assert catalogue.unpaid(places).tolist() == [5.0, 5.0]
    catalogue.paid.add(first.uid)
    assert catalogue.unpaid(places).tolist() == [0.0, 5.0]
