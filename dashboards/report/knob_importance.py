"""Knob importance: the share of each meter's variance that a knob explains by itself."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paretta.search_spaces.canonical import Json
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.results.trial import Trial

_MOST_GROUPS: Final = 8
_FEWEST: Final = 12
_PER_GROUP: Final = 5  # with fewer trials in a group, chance explains too much


def influence(trials: Sequence[Trial], objectives: Sequence[Objective]) -> dict[str, dict[str, float]]:
    """Return, by meter and knob, the share of the meter's variance that the knob explains alone, 0..1.

    Only measured trials count. "Not reached" is treated as one more value of a knob. Meters that are compared by ratio
    (see `Objective.axis`) are transformed to logarithms. Empty if there are fewer than twelve measured trials.
    """
    finished = [t for t in trials if t.is_measured and t.role == "trial"]
    finished = [t for t in finished if all(t.value(o.meter) is not None for o in objectives)]
    if len(finished) < _FEWEST:
        return {}
    knobs = list(dict.fromkeys(name for trial in finished for name in trial.knobs))
    groups = {name: _groups([trial.knobs.get(name) for trial in finished]) for name in knobs}
    shares = {}
    for objective in objectives:
        readings = [_value(trial, objective) for trial in finished]
        typical = float(np.median(np.abs(readings)))
        values = np.array([objective.axis(reading, typical) for reading in readings])
        shares[objective.meter] = {name: explained_share(values, groups[name]) for name in knobs}
    return shares


def explained_share(values: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Return epsilon squared: the share of variance between groups, corrected for chance.

    ``(SSB - (k - 1) MSW) / SST`` with ``MSW = SSW / (n - k)`` (Kelley 1935); negative values are returned as zero.

    Args:
        values: [n].
        groups: [n], the group of each value.

    >>> explained_share(np.array([1.0, 1.0, 3.0, 3.0]), np.array([0, 0, 1, 1]))
    1.0
    """
    total = float(((values - values.mean()) ** 2).sum())
    names = np.unique(groups)
    if total == 0.0 or not 1 < len(names) < len(values):
        return 0.0
    within = float(sum(((values[groups == g] - values[groups == g].mean()) ** 2).sum() for g in names))
    noise = within / (len(values) - len(names))
    return min(max((total - within - (len(names) - 1) * noise) / total, 0.0), 1.0)


def _groups(answers: Sequence[Json]) -> NDArray[np.int64]:
    """Assign a group to each answer: one per distinct value, or quantile bins if there are many numbers."""
    numbers = sorted(float(a) for a in answers if isinstance(a, int | float) and not isinstance(a, bool))
    most = min(max(len(answers) // _PER_GROUP, 2), _MOST_GROUPS)
    if len(set(numbers)) <= most:
        names: Mapping[str, int] = {name: index for index, name in enumerate(dict.fromkeys(map(repr, answers)))}
        return np.array([names[repr(answer)] for answer in answers])
    cuts = np.quantile(numbers, np.linspace(0, 1, most + 1)[1:-1])
    return np.array([np.searchsorted(cuts, a) if isinstance(a, int | float) else most for a in answers])


def _value(trial: Trial, objective: Objective) -> float:
    value = trial.value(objective.meter)
    assert value is not None
    return value
