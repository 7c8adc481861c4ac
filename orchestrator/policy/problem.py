"""A search problem: its knobs, the objectives known before training, the learned ones, and the costs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.encoding import Configuration
from paretta.orchestrator.policy.expected_improvement import Scale
from paretta.orchestrator.policy.prior import Prior
from paretta.search_spaces.space.space import Knob

Facts: TypeAlias = Callable[[Sequence[Configuration]], Array]
LearnedLook: TypeAlias = Callable[[Configuration], Array | None]


@dataclass(frozen=True, slots=True)
class Known:
    """An objective known before training, as a loss.

    Args:
        name: the meter's name.
        reference: the loss at the reference point of the hypervolume, from which on a result is worthless.
        limit: the largest loss allowed; a candidate above it is never trained.
    """

    name: str
    reference: float
    limit: float = math.inf


@dataclass(frozen=True, slots=True)
class Learned:
    """An objective that is known only after training, as a loss.

    Args:
        name: the meter's name.
        reference: the loss from which on a result is worthless.
        limit: the largest loss allowed; only a loss below it counts as an improvement.
        scale: ``log`` for a positive loss whose ratios matter, such as an error rate; else ``linear``.
    """

    name: str
    reference: float
    limit: float = math.inf
    scale: Scale = "linear"


@dataclass(frozen=True, slots=True)
class Rungs:
    """The fidelities at which a trial reports, and its cost until then.

    Args:
        fidelities: in ascending order, such as epochs; the last one is a full trial.
        costs: the cumulative cost of a trial at each fidelity, with its set-up, without a shared prefix.
    """

    fidelities: tuple[float, ...] = (1.0,)
    costs: tuple[float, ...] = (1.0,)

    def position(self, rung: int) -> float:
        """Return the rung's position between 0 and 1, on a scale of log(1 + fidelity)."""
        return math.log1p(self.fidelities[rung]) / math.log1p(self.fidelities[-1])

    def share_spent(self, rung: int, before: float = 0.0) -> float:
        """Return the cost until a rung over the cost until the next one, both with the cost `before` of earlier work.

        >>> rungs = Rungs((1.0, 3.0, 9.0), (1.0, 3.0, 9.0))
        >>> rungs.share_spent(0), rungs.share_spent(0, before=5.0)
        (0.3333333333333333, 0.75)
        """
        return (before + self.costs[rung]) / (before + self.costs[rung + 1])

    @property
    def last(self) -> int:
        """The rung of a full trial."""
        return len(self.fidelities) - 1

    def at(self, fidelity: float) -> int:
        """Return the rung of a fidelity. Raises `ValueError` if there is none."""
        return self.fidelities.index(fidelity)


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """Work that trials may share: the first trial pays `cost`, the others reuse the result."""

    uid: str
    cost: float


@dataclass(frozen=True, slots=True)
class SearchProblem:
    """A search problem in losses only: all objectives are minimised and already scaled.

    Args:
        knobs: the search variables.
        known, learned: the objectives.
        rungs: when a trial reports and what that costs.
        known_losses: returns the known objectives of configurations, [n, known], by the best current estimate.
        foresee: computes the known objectives of one configuration, [known], or None if it cannot be carried out; it is
            called before a configuration is proposed. None: `known_losses` is exact from the start.
        features: returns cheap predictors for configurations, such as the error without training, [n, any].
        prefix: returns the part of a configuration's work that others may share; None if there is none.
        menu: the only configurations that may be proposed; None for everything the knobs allow.
        warm_start: configurations to try first, in this order.
        prior: what other tasks' results say about the learned losses; None without any.
    """

    knobs: tuple[Knob, ...]
    known: tuple[Known, ...]
    learned: tuple[Learned, ...]
    rungs: Rungs = field(default_factory=Rungs)
    known_losses: Facts | None = None
    foresee: LearnedLook | None = None
    features: Facts | None = None
    prefix: Callable[[Configuration], SharedPrefix | None] | None = None
    menu: tuple[Configuration, ...] | None = None
    warm_start: tuple[Configuration, ...] = ()
    prior: Prior | None = None

    @property
    def reference(self) -> Array:
        """The reference point [known + learned], tightened by the limits."""
        both = [(o.reference, o.limit) for o in self.known] + [(o.reference, o.limit) for o in self.learned]
        return np.asarray(np.array(both, dtype=np.float64).reshape(-1, 2).min(axis=1))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration that a search asks to be trained.

    Args:
        number: of the candidate in this search, from 0.
        config: the knobs' values.
        prefix: the shared work it starts from.
        index: expected improvement per cost when it was chosen; NaN if no model chose it.
    """

    number: int
    config: Configuration
    prefix: SharedPrefix | None = None
    index: float = math.nan
