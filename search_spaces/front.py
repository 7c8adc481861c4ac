"""The front: the finished trials that no other trial beats, and the choice of one by a wish."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from search_spaces.errors import Problem, WrongInput, did_you_mean
from search_spaces.objectives import Objective, Reading
from search_spaces.pareto import Losses, hypervolume, non_dominated
from search_spaces.quantities import format_quantity, parse_quantity
from search_spaces.trial import Trial

_REFERENCE_POINTS: Final = 1.0  # the reference point of learned objectives: ten points worse than the baseline


@dataclass(frozen=True, slots=True)
class Front:
    """The non-dominated trials of a sweep, in order of the first objective.

    Args:
        objectives: what is compared, in the sweep's order.
        members: the trials of the front; the baseline is one where nothing beats it.
        baseline: the uncompressed model that every relative number refers to.
        trials: all trials of the sweep, whatever became of them.
    """

    objectives: tuple[Objective, ...]
    members: tuple[Trial, ...]
    baseline: Trial | None = None
    trials: tuple[Trial, ...] = field(default=(), repr=False)
    sweep: str = ""

    @classmethod
    def of(cls, trials: Iterable[Trial], objectives: Sequence[Objective], sweep: str = "") -> "Front":
        """Take the complete trials that have every objective measured and keep the non-dominated ones."""
        everything = tuple(trials)
        baseline = next((t for t in everything if t.role == "baseline" and _measured(t, objectives)), None)
        finished = [t for t in everything if t.status == "complete" and _measured(t, objectives)]
        keep = non_dominated(_losses(finished, objectives))
        members = [trial for trial, kept in zip(finished, keep, strict=True) if kept]
        members.sort(key=lambda trial: (_losses([trial], objectives)[0].tolist(), trial.number))
        return cls(tuple(objectives), tuple(members), baseline, everything, sweep)

    def __iter__(self) -> Iterator[Trial]:
        """Iterate over the members."""
        return iter(self.members)

    def __len__(self) -> int:
        """Count the members."""
        return len(self.members)

    @property
    def hypervolume(self) -> float:
        """Volume between the front and the reference point, on the axes of `Objective.axis`.

        The reference point is the baseline: its size, its latency and the like as they are, and ten points less
        accurate. Zero until the baseline is measured.
        """
        if self.baseline is None or not self.members:
            return 0.0
        axes = self._axes(self.members)
        reference = [0.0 if _is_ratio(objective) else _REFERENCE_POINTS for objective in self.objectives]
        return hypervolume(axes, np.array(reference))

    def knee(self) -> Trial:
        """Return the member farthest from the plane through the front's extremes, towards better in everything.

        Each axis is scaled to 0..1 over the front, where that plane is ``sum of axes = 1``. Raises `WrongInput` on an
        empty front.
        """
        return self._knee_of(self.members)

    def pick(
        self,
        *,
        prefer: str = "knee",
        at_least: Mapping[str, str | float] | None = None,
        at_most: Mapping[str, str | float] | None = None,
    ) -> Trial:
        """Return the member that meets every limit and is best by `prefer`.

        Args:
            prefer: ``knee``, or the name of an objective.
            at_least: limits from below by meter, such as ``{"accuracy": "97%"}``.
            at_most: limits from above by meter, such as ``{"size": "50kB", "latency": "2ms"}``.

        Raises:
            WrongInput: an unknown meter or unit, or no member meets the limits; then the nearest members are named.
        """
        choices = ["knee", *(objective.meter for objective in self.objectives)]
        if prefer not in choices:
            raise WrongInput(Problem("prefer", did_you_mean(prefer, choices, "preference")))
        limits = [self._limit(meter, text, 1) for meter, text in (at_least or {}).items()]
        limits += [self._limit(meter, text, -1) for meter, text in (at_most or {}).items()]
        fitting = [trial for trial in self.members if all(limit.excess(trial) <= 0 for limit in limits)]
        if not fitting and self.members:
            raise WrongInput(self._nothing_fits(limits))
        if prefer == "knee":
            return self._knee_of(fitting)
        objective = next(o for o in self.objectives if o.meter == prefer)
        return min(fitting, key=lambda trial: (_losses([trial], [objective])[0, 0], trial.number))

    def _axes(self, trials: Sequence[Trial]) -> Losses:
        assert self.baseline is not None
        origin = [_value(self.baseline, objective) for objective in self.objectives]
        rows = [
            [o.axis(_value(trial, o), base) for o, base in zip(self.objectives, origin, strict=True)]
            for trial in trials
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.objectives))

    def _knee_of(self, trials: Sequence[Trial]) -> Trial:
        if not trials:
            raise WrongInput(Problem("front", "the front is empty: no trial finished with every objective measured"))
        axes = self._axes(trials) if self.baseline else _losses(trials, self.objectives)
        low, high = axes.min(axis=0), axes.max(axis=0)
        scaled = (axes - low) / np.where(high > low, high - low, 1.0)
        return trials[int(np.argmin(scaled.sum(axis=1)))]

    def _limit(self, meter: str, text: str | float, sign: int) -> "_Limit":
        known = {name: reading for trial in self.members for name, reading in trial.readings.items()}
        where = f"--{'at-least' if sign > 0 else 'at-most'} {meter}={text}"
        if meter not in known and self.members:
            raise WrongInput(Problem(where, did_you_mean(meter, known, "meter")))
        try:
            value, unit = parse_quantity(text)
        except ValueError as error:
            raise WrongInput(Problem(where, str(error))) from None
        reading = known.get(meter)
        if reading is not None and reading.value_in(unit) is None:
            rule = f"{meter} is measured in {reading.unit!r}, not in {unit!r}"
            raise WrongInput(Problem(where, rule, mend="give the value in that unit"))
        return _Limit(meter, value, unit, sign)

    def _nothing_fits(self, limits: Sequence["_Limit"]) -> Problem:
        near = sorted(self.members, key=lambda trial: sum(max(limit.excess(trial), 0.0) for limit in limits))[:3]
        wishes = " and ".join(map(str, limits))
        points = "; ".join(f"{trial.uid}: {self._in_words(trial)}" for trial in near)
        return Problem("pull", f"no point of the front has {wishes}", mend=f"the nearest are {points}")

    def _in_words(self, trial: Trial) -> str:
        values = [(o.meter, format_quantity(_value(trial, o), o.unit)) for o in self.objectives]
        return ", ".join(f"{meter} {value}" for meter, value in values)


@dataclass(frozen=True, slots=True)
class _Limit:
    """A bound on one meter; `sign` is +1 for at least, -1 for at most."""

    meter: str
    value: float
    unit: str | None
    sign: int

    def excess(self, trial: Trial) -> float:
        """Return by how much of the bound itself the trial misses it; not positive where it is met."""
        reading: Reading | None = trial.readings.get(self.meter)
        value = reading.value_in(self.unit) if reading else None
        if value is None:
            return float("inf")
        return self.sign * (self.value - value) / (abs(self.value) or 1.0)

    def __str__(self) -> str:
        bound = "at least" if self.sign > 0 else "at most"
        return f"{self.meter} {bound} {format_quantity(self.value, self.unit or '')}"


def _is_ratio(objective: Objective) -> bool:
    return objective.goal == "min" and objective.unit != "share"


def _measured(trial: Trial, objectives: Sequence[Objective]) -> bool:
    return all(trial.value(objective.meter) is not None for objective in objectives)


def _value(trial: Trial, objective: Objective) -> float:
    value = trial.value(objective.meter)
    assert value is not None
    return value


def _losses(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Losses:
    rows = [[o.loss(_value(trial, o)) for o in objectives] for trial in trials]
    return np.array(rows, dtype=np.float64).reshape(len(trials), len(objectives))
