"""Every sampler with every stopper, without a test of its own: repeatable, resumable, true to limits."""

import pickle
import warnings
from collections.abc import Mapping
from typing import cast

import numpy as np
import pytest

from paretta.orchestrator.policy.problem import Rungs
from paretta.orchestrator.search.interfaces import Stopper, Strategy
from paretta.orchestrator.search.known_objectives import KnownObjectives
from paretta.orchestrator.search.losses import scales_of
from paretta.orchestrator.search.spec import Search
from paretta.orchestrator.search.suggester import Suggester
from paretta.search_spaces.objectives.limits import Limit
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.pareto import non_dominated
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.registry import SAMPLERS, STOPPERS, Registry
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import Space

SPACE = Space.parse(
    [{"kind": "train", "epochs": 1}],
    [
        {"choice": [None, {"kind": "prune", "sparsity": {"float": [0.1, 0.9]}}]},
        {"kind": "quantize", "bits": {"int": [2, 8]}, "rounding": {"choice": ["nearest", {"kind": "learned"}]}},
    ],
)
OBJECTIVES = (Objective("size", "min", "B"), Objective("accuracy", "max", "share"))
BASELINE = {"size": Reading(100.0, "B"), "accuracy": Reading(0.98, "share")}
SLOW, SLOW_TRIALS = {"gp"}, 7  # these decide in tenths of a second, so they are asked for fewer trials


def losses_of(plan: Plan, progress: float = 1.0) -> list[float]:
    """Size falls with bits and sparsity, accuracy with their squares; learned rounding is better by five points."""
    stages = {str(stage["kind"]): stage for stage in plan.stages}
    bits, sparsity = cast(int, stages["quantize"]["bits"]), cast(float, stages.get("prune", {}).get("sparsity", 0.0))
    penalty = 0.05 if stages["quantize"]["rounding"] == "nearest" else 0.0
    error = 0.02 + 0.3 * (1 - bits / 8) ** 2 + 0.3 * sparsity**2 + penalty + 0.3 * (1 - progress)
    return [100.0 * bits * (1 - sparsity) / 8, error - 1.0]


def look(plan: Plan) -> Mapping[str, Reading]:
    return {"size": Reading(losses_of(plan)[0], "B")}


def suggester(
    name: str,
    *,
    num_trials: int = 24,
    seed: int = 3,
    stopper: str = "none",
    limits: tuple[Limit, ...] = (),
    slow: int = SLOW_TRIALS,
) -> Suggester:
    num_trials = min(num_trials, slow) if name in SLOW else num_trials
    known = scales_of(OBJECTIVES, BASELINE, limits=limits)[:1]
    search = Search(
        SPACE,
        OBJECTIVES,
        num_trials,
        seed,
        baseline=BASELINE,
        limits=limits,
        foresight=KnownObjectives(SPACE, known, look, SPACE.knobs()),
        rungs=Rungs((1.0, 3.0, 9.0), (1.0, 3.0, 9.0)),
    )
    strategy = cast(Strategy, SAMPLERS.load(name)(search))  # type: ignore[operator]
    return Suggester(search, strategy, cast(Stopper, STOPPERS.load(stopper)(search, strategy)))  # type: ignore[operator]


def run(search: Suggester, num_trials: int = 1000) -> list[tuple[str, str]]:
    """Run trials to their end or until they are stopped; return plans and verdicts."""
    plans: list[tuple[str, str]] = []
    while len(plans) < num_trials and (suggestion := search.ask()) is not None:
        goes_on = all(
            search.report(suggestion.key, rung, {"accuracy": -losses_of(suggestion.plan, progress)[1]})
            for rung, progress in enumerate((0.3, 0.7))
        )
        verdict = search.tell(suggestion.key, losses_of(suggestion.plan) if goes_on else None, stopped=not goes_on)
        plans.append((suggestion.plan.fingerprint, verdict))
    return plans


@pytest.fixture(params=SAMPLERS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_sampler_runs_exactly_the_asked_number_of_distinct_plans(name: str) -> None:
    search = suggester(name)
    plans = run(search)
    assert len(plans) == len({fingerprint for fingerprint, _ in plans}) == search.search.num_trials


def test_every_sampler_is_repeatable_under_its_seed(name: str) -> None:
    first = run(suggester(name, num_trials=12))
    assert run(suggester(name, num_trials=12)) == first
    assert run(suggester(name, num_trials=12, seed=4)) != first


@pytest.mark.parametrize("stopper", ["none", "index"])
def test_every_sampler_resumes_as_if_never_interrupted(name: str, stopper: str) -> None:
    whole = run(suggester(name, num_trials=12, stopper=stopper))
    first = suggester(name, num_trials=12, stopper=stopper)
    begun = run(first, num_trials=first.search.num_trials // 2)
    resumed = pickle.loads(pickle.dumps(first))
    assert resumed.search.foresight.look_at is None  # who looks belongs to a running cluster
    resumed.search.foresight.look_at = look
    assert begun + run(resumed) == whole


def test_every_sampler_finds_a_toy_front(name: str) -> None:
    search = suggester(name, num_trials=50, slow=12)
    losses = []
    while (suggestion := search.ask()) is not None:
        losses.append(losses_of(suggestion.plan))
        search.tell(suggestion.key, losses[-1])
    front = np.array(losses)[non_dominated(np.array(losses))]
    assert len(front) >= 5
    # the true front ends at the model as it was, and below an eighth of its size
    assert front[:, 1].min() < -0.9
    assert front[:, 0].min() < 20.0


def test_every_sampler_survives_failures_and_stops(name: str) -> None:
    search = suggester(name, num_trials=18)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for count in range(search.search.num_trials):
            suggestion = search.ask()
            assert suggestion is not None
            if count % 3 == 0:
                search.tell(suggestion.key, [float("nan"), 1.0])
            elif count % 3 == 1:
                search.tell(suggestion.key, stopped=True)
            else:
                search.tell(suggestion.key, losses_of(suggestion.plan))
    assert search.running == ()
    assert search.ask() is None


def test_no_sampler_has_a_plan_run_that_breaks_a_known_limit(name: str) -> None:
    half = Limit.parse({"meter": "size", "at_most": {"of_baseline": 0.5}})
    search = suggester(name, num_trials=12, limits=(half,))
    sizes = []
    while (suggestion := search.ask()) is not None:
        sizes.append(losses_of(suggestion.plan)[0])
        search.tell(suggestion.key, losses_of(suggestion.plan))
    assert len(sizes) == search.search.num_trials
    assert max(sizes) <= 50.0


@pytest.mark.parametrize("stopper", sorted({*STOPPERS.names()} - {"none"}))
def test_every_stopper_works_with_every_sampler_and_spares_what_is_worse(name: str, stopper: str) -> None:
    search = suggester(name, num_trials=24, stopper=stopper)
    verdicts = [verdict for _, verdict in run(search)]
    assert len(verdicts) == search.search.num_trials
    assert set(verdicts) <= {"complete", "stopped early"}
    assert 0 < verdicts.count("stopped early") < len(verdicts)


@pytest.mark.parametrize("registry", [SAMPLERS, STOPPERS], ids=["samplers", "stoppers"])
def test_each_says_in_one_line_what_it_is(registry: Registry) -> None:
    assert all(20 < len(registry.describe(known)) <= 120 for known in registry.names())
