"""Build a search from a sweep file: its foresight, sampler, stopper and first plans."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast

from paretta.orchestrator.config.budget import SearchBudget
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.search.first_plans import good_plans
from paretta.orchestrator.search.interfaces import Stopper, Strategy, wants_known_objectives
from paretta.orchestrator.search.known_objectives import KnownObjectives
from paretta.orchestrator.search.losses import scales_of
from paretta.orchestrator.search.rungs import rungs_of
from paretta.orchestrator.search.shared_prefix import shared_prefix_of
from paretta.orchestrator.search.spec import Search
from paretta.orchestrator.search.suggester import Suggester
from paretta.pipelines.meter import Meter
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.faults import blaming, fault_of
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.registry import SAMPLERS, STOPPERS, Registry
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.variation import structural

if TYPE_CHECKING:
    from paretta.orchestrator.config.check import Checked

_STRATEGY: Final = "name a function make(search) that returns a Strategy of paretta.orchestrator.search.interfaces"
_STOPPER: Final = (
    "name a function make(search, strategy) that returns a Stopper of paretta.orchestrator.search.interfaces"
)


class UntrainedReader(Protocol):
    """Returns the readings of a plan that are known before training, by meter; None if it cannot be carried out."""

    def __call__(self, plan: Plan, *, meters: Sequence[str]) -> Mapping[str, Reading] | None:
        """Read one plan."""


def suggester_of(sweep: Sweep, checked: "Checked", baseline: Mapping[str, Reading], look: UntrainedReader) -> Suggester:
    """Return the suggester for a sweep file.

    Args:
        sweep: the parsed sweep file.
        checked: the result of its check.
        baseline: readings of the uncompressed model.
        look: returns the readings of a plan that are known before training.
    """
    config = sweep.config.search
    search = _search(sweep, checked.meters, checked.epochs, baseline, look)
    strategy = cast(Callable[[Search], Strategy], SAMPLERS.load(config.sampler))(search)
    stopper = cast(Callable[[Search, Strategy], Stopper], STOPPERS.load(config.stopper))(search, strategy)
    return Suggester(search, strategy, stopper, deque(good_plans(sweep.space) if config.good_plans else ()))


def try_search(sweep: Sweep, meters: Sequence[Meter], epochs: int) -> Iterator[Problem]:
    """Make the sampler's strategy and the stopper with readings that are made up, and ask for one plan.

    Args:
        sweep: the parsed sweep file.
        meters: those of its objectives.
        epochs: the most epochs of a plan's last training.

    Yields:
        The first thing that a strategy or a stopper does not do.
    """
    made_up = {meter.label: Reading(0.5 if meter.unit == "share" else 1.0, meter.unit) for meter in meters}
    search = _search(sweep, meters, epochs, made_up, lambda _, *, meters: {label: made_up[label] for label in meters})
    sampler, stopper = sweep.config.search.sampler, sweep.config.search.stopper
    place = sweep.source.where("search.sampler")
    try:
        strategy = _made(SAMPLERS, sampler, place, search)
        points = sweep.config.deliver.variants or sweep.config.search.warm_start  # these alone come from elsewhere
        if lacking := _lacking(strategy, ("ask", "report", "tell", *(("add_point",) if points else ()))):
            yield Problem(place, f"its strategy must have {lacking}", f"{sampler}: {_kind(strategy)}", _STRATEGY)
            return
        with blaming(place, f"asking {sampler} for a plan"):
            asked = cast(Strategy, strategy).ask()
            _, plan, _ = asked
        if not isinstance(plan, Plan):
            yield Problem(place, "its strategy's ask must return a number, a plan and its knobs", asked, _STRATEGY)
        place = sweep.source.where("search.stopper")
        rule = _made(STOPPERS, stopper, place, search, strategy)
        if lacking := _lacking(rule, ("begin", "goes_on", "tell")):
            yield Problem(place, f"must make an object that has {lacking}", f"{stopper}: {_kind(rule)}", _STOPPER)
    except WrongInput as error:
        yield from (replace(problem, where=place) for problem in error.problems)


def _made(registry: Registry, name: str, where: str, *arguments: object) -> object:
    make = cast(Callable[..., object], registry.load(name, where=where))
    try:
        with blaming(where, f"making the {registry.noun} failed"):
            return make(*arguments)
    except WrongInput as error:
        if error.__cause__ is None:
            raise
        hint = _STRATEGY if registry is SAMPLERS else _STOPPER
        rule = f"calling it failed: {fault_of(error.__cause__)}"
        raise WrongInput(Problem(where, rule, name, hint)) from error.__cause__


def _lacking(thing: object, methods: Sequence[str]) -> str:
    return ", ".join(name for name in methods if not callable(getattr(thing, name, None)))


def _kind(thing: object) -> str:
    return type(thing).__name__


def _search(
    sweep: Sweep, meters: Sequence[Meter], epochs: int, baseline: Mapping[str, Reading], look: UntrainedReader
) -> Search:
    config = sweep.config.search
    return Search(
        sweep.space,
        tuple(Objective(meter.label, meter.goal, meter.unit) for meter in meters),
        config.trials,
        config.seed,
        baseline=baseline,
        limits=sweep.limits,
        reference=sweep.reference,
        foresight=_foresight(sweep, meters, baseline, look),
        rungs=rungs_of(epochs),
        beginning=shared_prefix_of if any(map(shared_prefix_of, sweep.space.corners())) else None,
    )


def budget_of(sweep: Sweep, num_lanes: int, began: float) -> SearchBudget:
    """Return the limits that end the search before its number of trials is reached."""
    workers = sweep.config.workers
    held = num_lanes * workers.per_trial
    return SearchBudget(sweep.config.budget, held * workers.cpus, held * workers.gpus, began)


def _foresight(
    sweep: Sweep, meters: Sequence[Meter], baseline: Mapping[str, Reading], look: UntrainedReader
) -> KnownObjectives | None:
    """Return the foresight; None if neither the sampler, the stopper nor a limit uses it."""
    from paretta.pipelines.measuring.untrained import structure_key  # noqa: PLC0415 - torch is loaded where a plan is looked at

    objectives = [Objective(meter.label, meter.goal, meter.unit) for meter in meters]
    scales = scales_of(objectives, baseline, limits=sweep.limits, reference=sweep.reference)
    known = {meter.label for meter in meters if not meter.judges_answers}
    config = sweep.config.search
    if config.stopper == "none" and not wants_known_objectives(SAMPLERS.load(config.sampler)):
        known &= {limit.meter for limit in sweep.limits}
    own = [scale for scale in scales if scale.objective.meter in known]
    labels = [scale.objective.meter for scale in own]
    if not own:
        return None
    return KnownObjectives(sweep.space, own, partial(look, meters=labels), structural(sweep.space, structure_key))
