"""Convert objectives to losses for the search policy, on scales where equal differences are equally important."""

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
    """The scale of one objective's loss.

    A learned share, such as accuracy, becomes an error rate, which is modelled by its logarithm. Every other reading
    is placed on `Objective.axis`, in doublings of the baseline.

    Args:
        objective: the objective.
        baseline: the uncompressed model's reading.
        reference: the reference point on the objective's axis.
        bound: the worst value on the axis that the limits allow.
    """

    objective: Objective
    baseline: float
    reference: float
    bound: float = math.inf

    @property
    def scale(self) -> Scale:
        """The scale that a learned objective is modelled on."""
        return "linear" if self.objective.is_ratio else "log"

    def known(self, value: float) -> float:
        """Return the loss of a reading known before training."""
        return self.objective.axis(value, self.baseline)

    def learned(self, value: float) -> float:
        """Return the loss of a reading known only after training."""
        return self._from_axis(self.objective.axis(value, self.baseline))

    def as_known(self) -> Known:
        """Return the objective for a policy that knows it before training."""
        return Known(self.objective.meter, self.reference, self.bound + _ROUNDING)

    def as_learned(self) -> Learned:
        """Return the objective for a policy that has to learn it."""
        reference, limit = self._from_axis(self.reference), self._from_axis(self.bound) + _ROUNDING
        return Learned(self.objective.meter, reference, limit, scale=self.scale)

    def _from_axis(self, axis: float) -> float:
        """Convert a position on the axis of a share to an error rate."""
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
    """Return the loss scale of each objective, in order; the baseline must have a value for each."""
    points = reference_axes(objectives, baseline, reference).tolist()
    return tuple(_scale(o, baseline[o.meter], at, limits) for o, at in zip(objectives, points, strict=True))


def _scale(objective: Objective, baseline: Reading, reference: float, limits: Sequence[Limit]) -> LossScale:
    assert baseline.value is not None
    bounds = [axis_of(limit, objective, baseline) for limit in limits if limit.meter == objective.meter]
    return LossScale(objective, baseline.value, reference, min((b for b in bounds if b is not None), default=math.inf))
