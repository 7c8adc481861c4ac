"""The specification of a search, from which samplers and stoppers are made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from paretta.orchestrator.policy.encoding import Configuration
from paretta.orchestrator.policy.problem import Rungs, SearchProblem, SharedPrefix
from paretta.orchestrator.search.experience import Experience
from paretta.orchestrator.search.known_objectives import Knows
from paretta.orchestrator.search.losses import LossScale, scales_of
from paretta.search_spaces.objectives.limits import Limit
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.holes import Label
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import Pinned, Space


@dataclass(frozen=True, slots=True)
class Search:
    """The specification of a search.

    Args:
        space: the space of plans.
        objectives: in the order of the losses; smaller losses are better.
        num_trials: the number of distinct plans to run.
        seed: equal seeds and equal order of completion give equal plans.
        baseline: readings of the uncompressed model by meter.
        limits: bounds that a delivered model must meet.
        reference: moves the reference point, see `paretta.search_spaces.objectives.reference_point`.
        foresight: provides the objectives known before training; None if there are none.
        rungs: the epochs after which a trial reports its scores, and its cost until then.
        beginning: returns the part of a plan's work that other trials may share; None if nothing can be shared.
        menu: the only configurations that may be proposed; None for the whole space.
        experience: what earlier sweeps teach; None if nothing.
    """

    space: Space
    objectives: tuple[Objective, ...]
    num_trials: int
    seed: int = 0
    baseline: Mapping[str, Reading] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    reference: tuple[Limit, ...] = ()
    foresight: Knows | None = None
    rungs: Rungs = field(default_factory=Rungs)
    beginning: Callable[[Plan], SharedPrefix | None] | None = None
    menu: tuple[Configuration, ...] | None = None
    experience: Experience | None = None

    @property
    def scales(self) -> tuple[LossScale, ...]:
        """The loss scale of each objective; needs the baseline's readings."""
        return scales_of(self.objectives, self.baseline, limits=self.limits, reference=self.reference)

    @property
    def known(self) -> tuple[str, ...]:
        """Meters that are known before training, in the foresight's order."""
        return tuple(scale.objective.meter for scale in self.foresight.scales) if self.foresight else ()

    @property
    def learned(self) -> tuple[LossScale, ...]:
        """The other objectives."""
        return tuple(scale for scale in self.scales if scale.objective.meter not in self.known)

    def values(self, losses: Sequence[float]) -> dict[str, float]:
        """Convert losses to readings by meter."""
        turned = zip(self.objectives, losses, strict=True)
        return {objective.meter: objective.loss(loss) for objective, loss in turned}  # `loss` is its own inverse

    def violations(self, losses: Sequence[float]) -> dict[str, float]:
        """Return by which fraction of its bound each limit is missed; zero or negative if it is kept."""
        values = self.values(losses)
        found = {}
        for limit in self.limits:
            origin = self.baseline.get(limit.meter)
            reading = Reading(values[limit.meter], origin.unit if origin else "")
            if origin is not None and limit.unit not in (None, origin.unit):  # from a ratio to seconds
                seconds = origin.value_in(limit.unit)
                reading = replace(reading, details={"seconds": (seconds or 0.0) * values[limit.meter]})
            found[str(limit)] = limit.excess(reading, origin)
        return found

    def problem(self) -> SearchProblem:
        """Return the problem that the search policy solves."""
        foresight = self.foresight
        return SearchProblem(
            self.space.knobs(),
            tuple(scale.as_known() for scale in foresight.scales) if foresight else (),
            tuple(scale.as_learned() for scale in self.learned),
            self.rungs,
            known_losses=foresight.estimate if foresight else None,
            foresee=foresight.look if foresight else None,
            prefix=self._prefix if self.beginning else None,
            menu=self.menu,
            prior=self.experience.prior(self.learned, self.seed) if self.experience else None,
        )

    def _prefix(self, config: Configuration) -> SharedPrefix | None:
        assert self.beginning is not None
        return self.beginning(self.plan(config))

    def plan(self, knobs: Mapping[str, Label]) -> Plan:
        """Fill the space's holes with the given answers."""
        return self.space.fill(Pinned(knobs))
