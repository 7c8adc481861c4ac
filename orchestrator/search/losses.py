"""Objectives as the search policy sees them: losses on scales whose differences mean something."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paretta.orchestrator.policy.expected_improvement import Scale
from paretta.orchestrator.policy.problem import Known, Learned
from paretta.search_spaces.objectives.limits import Limit
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.objectives.reference_point import axis_of, reference_axes

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class LossScale:
    """One objective with what it is compared to.

    A share that training tells, such as accuracy, becomes an error rate, which is modelled by its logarithm. All else
    is placed on `Objective.axis`: doublings of the baseline.

    Args:
        objective: what is read.
        baseline: the uncompressed model's reading.
        reference: on the objective's axis, where it counts as worthless.
        bound: on the axis, the worst that the limits allow.
    """

    objective: Objective
    baseline: float
    reference: float
    bound: float = math.inf

    @property
    def scale(self) -> Scale:
        """How a learned one is modelled."""
        return "linear" if self.objective.is_ratio else "log"

    def known(self, value: float) -> float:
        """Return the loss of a reading that is known before training."""
        return self.objective.axis(value, self.baseline)

    def learned(self, value: float) -> float:
        """Return the loss of a reading that only training tells."""
        return self._from_axis(self.objective.axis(value, self.baseline))

    def as_known(self) -> Known:
        """Return the objective for a policy that knows it before training."""
        return Known(self.objective.meter, self.reference, self.bound + _ROUNDING)

    def as_learned(self) -> Learned:
        """Return the objective for a policy that has to learn it."""
        reference, limit = self._from_axis(self.reference), self._from_axis(self.bound) + _ROUNDING
        return Learned(self.objective.meter, reference, limit, scale=self.scale)

    def _from_axis(self, axis: float) -> float:
        """Turn a place on the axis of a share into the share of what is wrong."""
        if self.objective.is_ratio:
            return axis
        at_baseline = 1.0 - self.baseline if self.objective.goal == "max" else self.baseline
        return at_baseline + 0.1 * axis


def scales_of(
    objectives: Sequence[Objective],
    baseline: Mapping[str, Reading],
    *,
    limits: Sequence[Limit] = (),
    reference: Sequence[Limit] = (),
) -> tuple[LossScale, ...]:
    """Return the scale of each objective, in order; the baseline must have a value for each."""
    points = reference_axes(objectives, baseline, reference).tolist()
    return tuple(_scale(o, baseline[o.meter], at, limits) for o, at in zip(objectives, points, strict=True))


def _scale(objective: Objective, baseline: Reading, reference: float, limits: Sequence[Limit]) -> LossScale:
    assert baseline.value is not None
    bounds = [axis_of(limit, objective, baseline) for limit in limits if limit.meter == objective.meter]
    return LossScale(objective, baseline.value, reference, min((b for b in bounds if b is not None), default=math.inf))
