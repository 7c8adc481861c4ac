"""What a search is about: its knobs, what is known before training and what only training tells, and the costs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.encoding import Configuration
from paretta.orchestrator.policy.expected_improvement import Scale
from paretta.search_spaces.space.space import Knob

Facts: TypeAlias = Callable[[Sequence[Configuration]], Array]
LearnedLook: TypeAlias = Callable[[Configuration], Array | None]


@dataclass(frozen=True, slots=True)
class Known:
    """An objective that is known before training, as a loss.

    Args:
        name: of the meter.
        reference: the loss that counts as worthless; hypervolume is measured from here.
        limit: the largest loss allowed; a candidate above it is never trained.
    """

    name: str
    reference: float
    limit: float = math.inf


@dataclass(frozen=True, slots=True)
class Learned:
    """An objective that only training tells, as a loss.

    Args:
        name: of the meter.
        reference: the loss that counts as worthless.
        limit: the largest loss allowed; only what is below it counts as an improvement.
        scale: ``log`` for a positive loss such as an error rate, whose ratios matter; else ``linear``.
    """

    name: str
    reference: float
    limit: float = math.inf
    scale: Scale = "linear"


@dataclass(frozen=True, slots=True)
class Rungs:
    """Where a trial reports, and what it has cost by then.

    Args:
        fidelities: rising, such as epochs; the last one is a full trial.
        costs: what a trial has cost by each of them, set-up included, a shared prefix not.
    """

    fidelities: tuple[float, ...] = (1.0,)
    costs: tuple[float, ...] = (1.0,)

    def position(self, rung: int) -> float:
        """Return the rung's place between 0 and 1, on a scale of log(1 + fidelity)."""
        return math.log1p(self.fidelities[rung]) / math.log1p(self.fidelities[-1])

    @property
    def last(self) -> int:
        """The rung of a full trial."""
        return len(self.fidelities) - 1

    def at(self, fidelity: float) -> int:
        """Return the rung of a fidelity. Raises `ValueError` where it is none."""
        return self.fidelities.index(fidelity)


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """Work that trials may share: whoever comes first pays `cost`, the others find it done."""

    uid: str
    cost: float


@dataclass(frozen=True, slots=True)
class SearchProblem:
    """A search problem, in losses only: directions are turned and axes scaled before they come here.

    Args:
        knobs: what varies.
        known, learned: the objectives.
        rungs: when a trial reports and what that costs.
        known_losses: the known objectives of configurations, [n, known], as well as they are known at the time.
        foresee: looks at one configuration and returns its known objectives, [known], or None where it cannot be
            carried out. What a decision proposes is looked at first. None: `known_losses` is exact from the start.
        features: cheap hints about configurations, such as the error without training, [n, any].
        prefix: the part of a configuration's work that others may share, None where there is none.
        menu: the only configurations that may be proposed; None for everything the knobs allow.
        warm_start: configurations to try first, in this order.
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

    @property
    def reference(self) -> Array:
        """The reference point [known + learned], tightened by the limits."""
        both = [(o.reference, o.limit) for o in self.known] + [(o.reference, o.limit) for o in self.learned]
        return np.asarray(np.array(both, dtype=np.float64).reshape(-1, 2).min(axis=1))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration that a search asks to be trained.

    Args:
        number: counts the candidates of a search from 0.
        config: the knobs' values.
        prefix: the shared work it starts from.
        index: expected improvement per cost at the time it was chosen; NaN where no model chose it.
    """

    number: int
    config: Configuration
    prefix: SharedPrefix | None = None
    index: float = math.nan
