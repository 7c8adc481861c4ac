"""A search with simulated trials, to test samplers and stoppers."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, cast

from paretta.orchestrator.policy.problem import Rungs
from paretta.orchestrator.search.interfaces import Stopper, Strategy
from paretta.orchestrator.search.known_objectives import KnownObjectives
from paretta.orchestrator.search.losses import scales_of
from paretta.orchestrator.search.spec import Search
from paretta.orchestrator.search.suggester import Suggester
from paretta.search_spaces.objectives.limits import Limit
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.registry import STOPPERS
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import Space

Sampler: TypeAlias = Callable[[Search], Strategy]
MakeStopper: TypeAlias = Callable[[Search, Strategy], Stopper]

SPACE: Final = Space.parse(
    [{"kind": "train", "epochs": 1}],
    [
        {"choice": [None, {"kind": "prune", "sparsity": {"float": [0.1, 0.9]}}]},
        {"kind": "quantize", "bits": {"int": [2, 8]}, "rounding": {"choice": ["nearest", {"kind": "learned"}]}},
    ],
)
OBJECTIVES: Final = (Objective("size", "min", "B"), Objective("accuracy", "max", "share"))
TOY_BASELINE: Final = {"size": Reading(100.0, "B"), "accuracy": Reading(0.98, "share")}


def losses_of(plan: Plan, progress: float = 1.0) -> list[float]:
    """Return the losses of a plan: size is linear in bits and density, error quadratic, lower for learned rounding."""
    stages = {str(stage["kind"]): stage for stage in plan.stages}
    bits, sparsity = cast(int, stages["quantize"]["bits"]), cast(float, stages.get("prune", {}).get("sparsity", 0.0))
    penalty = 0.05 if stages["quantize"]["rounding"] == "nearest" else 0.0
    error = 0.02 + 0.3 * (1 - bits / 8) ** 2 + 0.3 * sparsity**2 + penalty + 0.3 * (1 - progress)
    return [100.0 * bits * (1 - sparsity) / 8, error - 1.0]


def look(plan: Plan) -> Mapping[str, Reading]:
    """Return the readings of a plan that are known before training."""
    return {"size": Reading(losses_of(plan)[0], "B")}


def search_of(num_trials: int, seed: int, limits: tuple[Limit, ...]) -> Search:
    """Return a search over the toy space, in which size is known before training."""
    known = scales_of(OBJECTIVES, TOY_BASELINE, limits=limits)[:1]
    return Search(
        SPACE,
        OBJECTIVES,
        num_trials,
        seed,
        baseline=TOY_BASELINE,
        limits=limits,
        foresight=KnownObjectives(SPACE, known, look, SPACE.knobs()),
        rungs=Rungs((1.0, 3.0, 9.0), (1.0, 3.0, 9.0)),
    )


def suggester(
    sampler: Sampler,
    stopper: str | MakeStopper = "none",
    *,
    num_trials: int = 24,
    seed: int = 3,
    limits: tuple[Limit, ...] = (),
) -> Suggester:
    """Return a suggester with a sampler and a stopper, which is given by name or as its `make` function."""
    search = search_of(num_trials, seed, limits)
    strategy = sampler(search)
    make = cast(MakeStopper, STOPPERS.load(stopper)) if isinstance(stopper, str) else stopper
    return Suggester(search, strategy, make(search, strategy))


def run_trials(search: Suggester, num_trials: int = 1000) -> list[tuple[str, str]]:
    """Run trials until they end or are stopped; return the fingerprint and verdict of each."""
    plans: list[tuple[str, str]] = []
    while len(plans) < num_trials and (suggestion := search.ask()) is not None:
        goes_on = all(
            search.report(suggestion.key, rung, {"accuracy": -losses_of(suggestion.plan, progress)[1]})
            for rung, progress in enumerate((0.3, 0.7))
        )
        verdict = search.tell(suggestion.key, losses_of(suggestion.plan) if goes_on else None, stopped=not goes_on)
        plans.append((suggestion.plan.fingerprint, verdict))
    return plans
