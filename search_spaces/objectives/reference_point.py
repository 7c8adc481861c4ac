"""The reference point, from which hypervolume is measured: what is worse in any objective adds nothing."""

from collections.abc import Mapping, Sequence

import numpy as np

from paretta.search_spaces.objectives.limits import Limit
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.pareto import Losses
from paretta.search_spaces.objectives.reading import Reading


def reference_axes(
    objectives: Sequence[Objective], baseline: Mapping[str, Reading], given: Sequence[Limit] = ()
) -> Losses:
    """Return the reference point [m] on the scales of `Objective.axis`.

    By default it is the baseline's reading for costs, such as size and latency, and one step worse than that for
    objectives that say how good the answers are: ten points of accuracy, or twice the loss (see `Objective.slack`).
    A bound in `given` replaces the default of its objective.

    >>> shares = Objective("accuracy", "max", "share"), Objective("size", "min", "B")
    >>> half = Limit.parse({"meter": "size", "at_most": {"of_baseline": 0.5}})
    >>> reference_axes(shares, {"size": Reading(100.0, "B"), "accuracy": Reading(0.9, "share")}, [half])
    array([ 1., -1.])
    """
    own = {limit.meter: limit for limit in given}
    return np.array([_axis(objective, baseline.get(objective.meter), own) for objective in objectives])


def axis_of(limit: Limit, objective: Objective, baseline: Reading | None) -> float | None:
    """Return a bound on the objective's axis; None if it needs a reading that the baseline does not have."""
    bound, origin = limit.bound(baseline), baseline.value if baseline else None
    own = baseline.value_in(limit.unit) if baseline else None
    if bound is None or origin is None or own is None:
        return None
    value = bound if limit.unit in (None, objective.unit) else bound * origin / own  # a bound in seconds on a ratio
    return objective.axis(value, origin)


def _axis(objective: Objective, baseline: Reading | None, own: Mapping[str, Limit]) -> float:
    given = axis_of(own[objective.meter], objective, baseline) if objective.meter in own else None
    return objective.slack if given is None else given
