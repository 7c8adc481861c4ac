"""Every sampler in the folder, without a test of its own: finds a toy front, is repeatable, resumes, never repeats."""

import pickle
import warnings
from typing import cast

import numpy as np
import pytest

from orchestrator.suggest import Search, Strategy, Suggester
from search_spaces.objectives import Objective
from search_spaces.pareto import non_dominated
from search_spaces.plan import Plan
from search_spaces.registry import SAMPLERS
from search_spaces.space import Space

SPACE = Space.parse(
    [{"kind": "train", "epochs": 1}],
    [
        {"choice": [None, {"kind": "prune", "sparsity": {"float": [0.1, 0.9]}}]},
        {"kind": "quantize", "bits": {"int": [2, 8]}, "rounding": {"choice": ["nearest", {"kind": "learned"}]}},
    ],
)
OBJECTIVES = (Objective("size", "min", "B"), Objective("accuracy", "max", "share"))


def losses_of(plan: Plan) -> list[float]:
    """Size falls with bits and sparsity, accuracy with their squares; learned rounding is better by 0.1."""
    stages = {str(stage["kind"]): stage for stage in plan.stages}
    bits, sparsity = cast(int, stages["quantize"]["bits"]), cast(float, stages.get("prune", {}).get("sparsity", 0.0))
    penalty = 0.1 if stages["quantize"]["rounding"] == "nearest" else 0.0
    return [bits * (1 - sparsity) / 8, (1 - bits / 8) ** 2 + sparsity**2 + penalty]


def suggester(name: str, num_trials: int = 40, seed: int = 3) -> Suggester:
    search = Search(SPACE, OBJECTIVES, num_trials, seed)
    return Suggester(search, cast(Strategy, SAMPLERS.load(name)(search)))  # type: ignore[operator]


def run(search: Suggester, num_trials: int = 1000) -> list[str]:
    plans: list[str] = []
    while len(plans) < num_trials and (suggestion := search.ask()) is not None:
        search.tell(suggestion.number, losses_of(suggestion.plan))
        plans.append(suggestion.plan.fingerprint)
    return plans


@pytest.fixture(params=SAMPLERS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_sampler_runs_exactly_the_asked_number_of_distinct_plans(name: str) -> None:
    plans = run(suggester(name))
    assert len(plans) == len(set(plans)) == 40


def test_every_sampler_is_repeatable_under_its_seed(name: str) -> None:
    assert run(suggester(name)) == run(suggester(name))
    assert run(suggester(name)) != run(suggester(name, seed=4))


def test_every_sampler_resumes_as_if_never_interrupted(name: str) -> None:
    whole = run(suggester(name))
    first = suggester(name)
    begun = run(first, num_trials=17)
    resumed = pickle.loads(pickle.dumps(first))
    assert begun + run(resumed) == whole


def test_every_sampler_finds_a_toy_front(name: str) -> None:
    search = suggester(name, num_trials=60)
    losses = []
    while (suggestion := search.ask()) is not None:
        losses.append(losses_of(suggestion.plan))
        search.tell(suggestion.number, losses[-1])
    front = np.array(losses)[non_dominated(np.array(losses))]
    assert len(front) >= 5
    # The true front ends at the model as it was, and below an eighth of its size.
    assert front[:, 1].min() < 0.1
    assert front[:, 0].min() < 0.15


def test_every_sampler_survives_failures_and_stops(name: str) -> None:
    search = suggester(name, num_trials=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for count in range(30):
            suggestion = search.ask()
            assert suggestion is not None
            if count % 3 == 0:
                search.tell(suggestion.number, [float("nan"), 1.0])
            elif count % 3 == 1:
                search.tell(suggestion.number, pruned=True)
            else:
                search.tell(suggestion.number, losses_of(suggestion.plan))
    assert search.running == ()
    assert search.ask() is None


def test_every_sampler_says_in_one_line_what_it_is(name: str) -> None:
    assert 20 < len(SAMPLERS.describe(name)) <= 120
