"""Build a search from a sweep file: its foresight, sampler, stopper and first plans."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, cast

from paretta.orchestrator.config.check import Checked
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.policy.problem import Rungs
from paretta.orchestrator.search.budget import SearchBudget
from paretta.orchestrator.search.first_plans import good_plans
from paretta.orchestrator.search.interfaces import Stopper, Strategy, wants_known_objectives
from paretta.orchestrator.search.known_objectives import KnownObjectives
from paretta.orchestrator.search.losses import scales_of
from paretta.orchestrator.search.shared_prefix import shared_prefix_of
from paretta.orchestrator.search.spec import Search
from paretta.orchestrator.search.suggester import Suggester
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.registry import SAMPLERS, STOPPERS
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.variation import structural


class Foreseer(Protocol):
    """Returns the readings of a plan that are known before training, by meter; None if it cannot be carried out."""

    def __call__(self, plan: Plan, *, meters: Sequence[str]) -> Mapping[str, Reading] | None:
        """Read one plan."""


_SETUP_EPOCHS = 0.25  # the set-up cost of a trial, in epochs
_ETA = 3


def suggester_of(sweep: Sweep, checked: Checked, baseline: Mapping[str, Reading], look: Foreseer) -> Suggester:
    """Return the suggester for a sweep file.

    Args:
        sweep: the parsed sweep file.
        checked: the result of its check.
        baseline: readings of the uncompressed model.
        look: returns the readings of a plan that are known before training.
    """
    config = sweep.config.search
    search = Search(
        sweep.space,
        checked.objectives,
        config.trials,
        config.seed,
        baseline=baseline,
        limits=sweep.limits,
        reference=sweep.reference,
        foresight=_foresight(sweep, checked, baseline, look),
        rungs=rungs_of(checked.epochs),
        beginning=shared_prefix_of if any(map(shared_prefix_of, sweep.space.corners())) else None,
    )
    strategy = cast(Callable[[Search], Strategy], SAMPLERS.load(config.sampler))(search)
    stopper = cast(Callable[[Search, Strategy], Stopper], STOPPERS.load(config.stopper))(search, strategy)
    return Suggester(search, strategy, stopper, deque(good_plans(sweep.space) if config.good_plans else ()))


def rungs_of(epochs: int) -> Rungs:
    """Return the rungs of a training: after a ninth, a third and all of its epochs.

    Earlier reports separate bad trials from good ones but not good from best, so they would stop slow learners that
    end well.

    >>> rungs_of(27).fidelities
    (3.0, 9.0, 27.0)
    >>> rungs_of(6).fidelities
    (1.0, 3.0, 6.0)
    """
    first = max(1, round(epochs / _ETA**2))
    early = [epoch for epoch in (first, first * _ETA) if epoch <= epochs / 2]
    return rungs_at([*early, max(epochs, 1)])


def rungs_at(epochs: Sequence[float]) -> Rungs:
    """Return rungs after the given ascending epochs; the cost of each is the epochs so far plus a trial's set-up."""
    at = tuple(map(float, epochs))
    return Rungs(at, tuple(epoch + _SETUP_EPOCHS for epoch in at))


def budget_of(sweep: Sweep, num_lanes: int, began: float) -> SearchBudget:
    """Return the limits that end the search before its number of trials is reached."""
    workers = sweep.config.workers
    held = num_lanes * workers.per_trial
    return SearchBudget(sweep.config.budget, held * workers.cpus, held * workers.gpus, began)


def _foresight(
    sweep: Sweep, checked: Checked, baseline: Mapping[str, Reading], look: Foreseer
) -> KnownObjectives | None:
    """Return the foresight; None if neither the sampler, the stopper nor a limit uses it."""
    from paretta.pipelines.measuring.untrained import structure_key  # noqa: PLC0415 - torch is loaded where a plan is looked at

    scales = scales_of(checked.objectives, baseline, limits=sweep.limits, reference=sweep.reference)
    known = {meter.label for meter in checked.meters if not meter.judges_answers}
    config = sweep.config.search
    if config.stopper == "none" and not wants_known_objectives(SAMPLERS.load(config.sampler)):
        known &= {limit.meter for limit in sweep.limits}
    own = [scale for scale in scales if scale.objective.meter in known]
    labels = [scale.objective.meter for scale in own]
    if not own:
        return None
    return KnownObjectives(sweep.space, own, partial(look, meters=labels), structural(sweep.space, structure_key))
