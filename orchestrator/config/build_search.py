"""Build a search from a sweep file: its foresight, sampler, stopper and first plans."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast

import numpy as np

from paretta.orchestrator.config.budget import SearchBudget
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.search.experience import Experience
from paretta.orchestrator.search.first_plans import good_plans
from paretta.orchestrator.search.interfaces import Stopper, Strategy, Verdict, wants_known_objectives
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
from paretta.search_spaces.space.holes import Label
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.variation import structural

if TYPE_CHECKING:
    from paretta.orchestrator.config.check import Checked

_STRATEGY: Final = "name a function make(search) that returns a Strategy of paretta.orchestrator.search.interfaces"
_STOPPER: Final = (
    "name a function make(search, strategy) that returns a Stopper of paretta.orchestrator.search.interfaces"
)


_PROPOSALS: Final = 3
_VERDICTS: Final[tuple[Verdict, ...]] = ("complete", "failed", "stopped early")


class UntrainedReader(Protocol):
    """Returns the readings of a plan that are known before training, by meter; None if it cannot be carried out."""

    def __call__(self, plan: Plan, *, meters: Sequence[str]) -> Mapping[str, Reading] | None:
        """Read one plan."""


def suggester_of(
    sweep: Sweep,
    checked: "Checked",
    baseline: Mapping[str, Reading],
    look: UntrainedReader,
    experience: Experience | None = None,
) -> Suggester:
    """Return the suggester for a sweep file.

    Args:
        sweep: the parsed sweep file.
        checked: the result of its check.
        baseline: readings of the uncompressed model.
        look: returns the readings of a plan that are known before training.
        experience: what the search learns from earlier sweeps.
    """
    config = sweep.config.search
    search = replace(_search(sweep, checked.meters, checked.epochs, baseline, look), experience=experience)
    strategy = cast(Callable[[Search], Strategy], SAMPLERS.load(config.sampler))(search)
    stopper = cast(Callable[[Search, Strategy], Stopper], STOPPERS.load(config.stopper))(search, strategy)
    return Suggester(search, strategy, stopper, deque(good_plans(sweep.space) if config.good_plans else ()))


def try_search(sweep: Sweep, meters: Sequence[Meter], epochs: int) -> Iterator[Problem]:
    """Make the sampler's strategy and the stopper, and carry them through three trials with readings that are made up.

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
    place_of_sampler, place_of_stopper = sweep.source.where("search.sampler"), sweep.source.where("search.stopper")
    try:
        strategy = _made(SAMPLERS, sampler, place_of_sampler, search)
        points = sweep.config.deliver.variants or sweep.config.search.warm_start  # these alone come from elsewhere
        if lacking := _lacking(strategy, ("ask", "report", "tell", *(("add_point",) if points else ()))):
            yield Problem(
                place_of_sampler, f"its strategy must have {lacking}", f"{sampler}: {_kind(strategy)}", _STRATEGY
            )
            return
        proposals = _proposals(cast(Strategy, strategy), search, place_of_sampler, sampler)
        rule = _made(STOPPERS, stopper, place_of_stopper, search, strategy)
        if lacking := _lacking(rule, ("begin", "goes_on", "tell")):
            yield Problem(
                place_of_stopper, f"must make an object that has {lacking}", f"{stopper}: {_kind(rule)}", _STOPPER
            )
            return
        scores = {meter.label: cast(float, made_up[meter.label].value) for meter in meters if meter.judges_answers}
        losses = [objective.loss(cast(float, made_up[objective.meter].value)) for objective in search.objectives]
        _carry_through(
            cast(Strategy, strategy),
            cast(Stopper, rule),
            proposals=proposals,
            scores=scores,
            losses=losses,
            search=search,
            places=(place_of_sampler, place_of_stopper),
        )
        if points:
            with blaming(place_of_sampler, f"telling {sampler} a point that it did not propose"):
                cast(Strategy, strategy).add_point(losses)
    except WrongInput as error:
        yield from error.problems


def _proposals(strategy: Strategy, search: Search, place: str, sampler: str) -> list[tuple[int, Mapping[str, Label]]]:
    """Ask for a few plans, the last with the knobs of the first, and return the strategy's number and knobs of each."""
    found: list[tuple[int, Mapping[str, Label]]] = []
    for count in range(min(_PROPOSALS, search.num_trials)):
        pinned = found[0][1] if count == _PROPOSALS - 1 else None
        with blaming(place, f"asking {sampler} for a plan" + (" with given knobs" if pinned else "")):
            asked: object = strategy.ask() if pinned is None else strategy.ask(pinned)
        if not (isinstance(asked, tuple) and [*map(_is_part, asked, (int, Plan, Mapping))] == [True] * 3):
            rule = "its strategy's ask must return a number, a plan and its knobs"
            raise WrongInput(Problem(place, rule, asked, _STRATEGY))
        found.append((asked[0], asked[2]))
    return found


def _is_part(value: object, kind: type) -> bool:
    return isinstance(value, kind)


def _carry_through(
    strategy: Strategy,
    stopper: Stopper,
    *,
    proposals: Sequence[tuple[int, Mapping[str, Label]]],
    scores: Mapping[str, float],
    losses: Sequence[float],
    search: Search,
    places: tuple[str, str],
) -> None:
    """Tell both of trials of which the first is complete, the second fails and the third is stopped early.

    Raises `WrongInput` if one of them fails, or the stopper decides by anything but True and False.

    Args:
        strategy: of the sampler.
        stopper: of the search.
        proposals: number and knobs of each trial, as the strategy gave them.
        scores: at every rung, by metric; empty if the sweep has no metric.
        losses: at the end, in the order of the objectives.
        search: what both were made for.
        places: of the sampler and of the stopper in the sweep file.
    """
    place, where = places
    for number, knobs in proposals:
        with blaming(where, "telling its stopper of a trial that begins"):
            stopper.begin(number, knobs)
    for (number, _), verdict in zip(proposals, _VERDICTS, strict=False):
        for rung in range(len(search.rungs.fidelities) - 1 if scores else 0):
            with blaming(place, "telling its strategy what a trial scores"):
                strategy.report(number, rung, scores)
            with blaming(where, "asking its stopper whether a trial goes on"):
                decided: object = stopper.goes_on(number, rung, scores)
            if not isinstance(decided, bool | np.bool_):
                raise WrongInput(Problem(where, "its goes_on must return True or False", decided, _STOPPER))
        told = losses if verdict == "complete" else None
        with blaming(place, f"telling its strategy of a trial that is {verdict}"):
            strategy.tell(number, verdict, told)
        with blaming(where, f"telling its stopper of a trial that is {verdict}"):
            stopper.tell(number, told, stopped=verdict == "stopped early")


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
