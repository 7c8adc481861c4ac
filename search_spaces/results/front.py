"""The Pareto front of a sweep, and how a wish selects one of its members."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean
from paretta.search_spaces.objectives.limits import Limit, wished
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.pareto import Losses, hypervolume, non_dominated
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.objectives.reference_point import reference_axes
from paretta.search_spaces.objectives.roles import preferences
from paretta.search_spaces.objectives.sure_dominance import Spread
from paretta.search_spaces.objectives.wish import Wish
from paretta.search_spaces.results.trial import Trial


@dataclass(frozen=True, slots=True)
class Front:
    """The non-dominated trials of a sweep that meet its limits, in order of the first objective.

    Args:
        objectives: the objectives that trials are compared by, in the sweep's order.
        members: the trials of the front; the baseline is one of them if no trial dominates it.
        baseline: the uncompressed model that every relative number refers to.
        trials: all trials of the sweep, in whatever state.
        limits: the limits that members must meet.
        best_effort: whether no trial meets the limits; then the members are the non-dominated of all trials, sorted by
            how much they miss the limits.
        wishes: the wishes of the sweep file, by name.
        reference: bounds that replace parts of the default reference point, see `reference_point.reference_axes`.
    """

    objectives: tuple[Objective, ...]
    members: tuple[Trial, ...]
    baseline: Trial | None = None
    trials: tuple[Trial, ...] = field(default=(), repr=False)
    sweep: str = ""
    limits: tuple[Limit, ...] = ()
    best_effort: bool = False
    wishes: Mapping[str, Wish] = field(default_factory=dict)
    reference: tuple[Limit, ...] = ()

    @classmethod
    def of(
        cls,
        trials: Iterable[Trial],
        objectives: Sequence[Objective],
        sweep: str = "",
        limits: Sequence[Limit] = (),
        wishes: Mapping[str, Wish] | None = None,
        *,
        reference: Sequence[Limit] = (),
    ) -> "Front":
        """Return the front of `trials`: the feasible, non-dominated ones of those with every objective measured.

        Confirmations are left out: they repeat the plan of another trial with another seed.
        """
        everything = tuple(trials)
        finished = _finished(everything, objectives)
        baseline = next((t for t in finished if t.role == "baseline"), None)
        missed = {trial.uid: missed_by(trial, limits, baseline) for trial in finished}
        feasible = [trial for trial in finished if missed[trial.uid] == 0]
        eligible = feasible or finished
        keep = non_dominated(_losses(eligible, objectives))
        members = [trial for trial, kept in zip(eligible, keep, strict=True) if kept]
        members.sort(key=lambda t: (missed[t.uid], _losses([t], objectives)[0].tolist(), t.number))
        best_effort = bool(members) and not feasible
        return cls(
            tuple(objectives),
            tuple(members),
            baseline,
            everything,
            sweep,
            tuple(limits),
            best_effort,
            wishes or {},
            tuple(reference),
        )

    def __repr__(self) -> str:
        """Say in one line what it is of; its trials are its members."""
        tried = sum(trial.role == "trial" for trial in self.trials)
        knee = f", knee {self.knee().uid}" if self.members else ""
        return f"<front of {self.sweep or 'a sweep'}: {len(self)} points, {tried} trials{knee}>"

    def __iter__(self) -> Iterator[Trial]:
        """Iterate over the members."""
        return iter(self.members)

    def __len__(self) -> int:
        """Count the members."""
        return len(self.members)

    @property
    def hypervolume(self) -> float:
        """Volume between the front and the reference point, on the axes of `Objective.axis`.

        See `reference_point.reference_axes` for the reference point. Zero until the baseline is measured and a trial
        meets the limits, so it never decreases when a trial is added.
        """
        if self.baseline is None or not self.members or self.best_effort:
            return 0.0
        reference = reference_axes(self.objectives, self.baseline.readings, self.reference)
        return hypervolume(self._axes(self.members), reference)

    @property
    def undecided(self) -> tuple[Trial, ...]:
        """Trials off the front that no trial dominates beyond measurement error, see `sure_dominance.Spread`."""
        eligible = self.eligible()
        if not eligible:
            return ()
        rows = [[trial.readings[o.meter] for o in self.objectives] for trial in eligible]
        keep = Spread.of(rows, self.objectives).undominated()
        members = {trial.uid for trial in self.members}
        return tuple(t for t, kept in zip(eligible, keep, strict=True) if kept and t.uid not in members)

    def eligible(self) -> list[Trial]:
        """Return the trials that the members were selected from.

        These have every objective measured and meet the limits; for a best effort, limits are not required.
        """
        finished = _finished(self.trials, self.objectives)
        return finished if self.best_effort else [trial for trial in finished if self.missed_by(trial) == 0]

    def missed_by(self, trial: Trial) -> float:
        """Return by how much a trial misses the limits: the sum of its excess over each bound, as shares of it."""
        return missed_by(trial, self.limits, self.baseline)

    def knee(self) -> Trial:
        """Return the best compromise: the member farthest below the plane through the front's extremes.

        Each axis is scaled to 0..1 over the front, where that plane is ``sum of axes = 1``. For a best effort, returns
        the member that misses the limits by least. Raises `WrongInput` if the front is empty.
        """
        return self._knee_of(self.members)

    def pick(
        self,
        *,
        prefer: str = "knee",
        at_least: Mapping[str, str | float] | None = None,
        at_most: Mapping[str, str | float] | None = None,
    ) -> Trial:
        """Return the member that meets every limit given here and is best by `prefer`.

        For a best effort, how little a member misses the sweep's own limits counts before the preference.

        Args:
            prefer: ``knee``, the name of an objective, or that of its role, such as ``size`` or ``smallest``.
            at_least: minimum by meter, such as ``{"accuracy": "97%"}``.
            at_most: maximum by meter, such as ``{"size": "50kB", "latency": "2ms"}``.

        Raises:
            WrongInput: an unknown meter or unit, or no member meets the limits; then the nearest members are named.
        """
        named = preferences(self.objectives)
        if prefer != "knee" and prefer not in named:
            raise WrongInput(Problem("prefer", did_you_mean(prefer, ["knee", *named], "preference")))
        limits = wished(at_least, at_most)
        self._require_measurable(limits)
        fitting = [trial for trial in self.members if missed_by(trial, limits, self.baseline) == 0]
        if not fitting and self.members:
            raise WrongInput(self._nothing_fits(limits))
        if prefer == "knee":
            return self._knee_of(fitting)
        order = {trial.uid: (self._missed(trial), _losses([trial], [named[prefer]])[0, 0]) for trial in fitting}
        return min(fitting, key=lambda trial: (*order[trial.uid], trial.number))

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
        if self.best_effort:
            return min(trials, key=lambda trial: (self._missed(trial), trial.number))
        axes = self._axes(trials) if self.baseline else _losses(trials, self.objectives)
        low, high = axes.min(axis=0), axes.max(axis=0)
        scaled = (axes - low) / np.where(high > low, high - low, 1.0)
        return trials[int(np.argmin(scaled.sum(axis=1)))]

    def _missed(self, trial: Trial) -> float:
        return self.missed_by(trial) if self.best_effort else 0.0

    def _require_measurable(self, limits: Sequence[Limit]) -> None:
        """Raise `WrongInput` for a limit on a meter that no member has, or in a unit other than its readings'."""
        known = {name: reading for trial in self.members for name, reading in trial.readings.items()}
        for limit in limits:
            reading, where = known.get(limit.meter), f"--{limit.side.replace('_', '-')} {limit.meter}"
            if reading is None and self.members:
                raise WrongInput(Problem(where, did_you_mean(limit.meter, known, "meter")))
            if reading is not None and reading.value_in(limit.unit) is None:
                rule = f"{limit.meter} is measured in {reading.unit!r}, not in {limit.unit!r}"
                raise WrongInput(Problem(where, rule, hint="give the value in that unit"))

    def _nothing_fits(self, limits: Sequence[Limit]) -> Problem:
        near = sorted(self.members, key=lambda trial: missed_by(trial, limits, self.baseline))[:3]
        wishes = " and ".join(map(str, limits))
        points = "; ".join(f"{trial.uid}: {self._in_words(trial)}" for trial in near)
        return Problem("pull", f"no member of the front has {wishes}", hint=f"the nearest are {points}")

    def _in_words(self, trial: Trial) -> str:
        return ", ".join(f"{o.meter} {trial.readings[o.meter].with_time}" for o in self.objectives)


def timed_on(front: Front) -> list[str]:
    """Return the name and processor of each machine that timed the members, such as ``node-3, AMD EPYC``."""
    timed = [reading.details for trial in front for reading in trial.readings.values() if "cpu" in reading.details]
    names = (", ".join(str(part) for part in (details.get("machine"), details["cpu"]) if part) for details in timed)
    return list(dict.fromkeys(names))


def _finished(trials: Iterable[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    complete = (trial for trial in trials if trial.is_measured and trial.role != "confirmation")
    return [trial for trial in complete if _measured(trial, objectives)]


def missed_by(trial: Trial, limits: Iterable[Limit], baseline: Trial | None) -> float:
    """Return by how much a trial misses `limits`: the sum of its excess over each bound, as shares of the bound."""

    def reading(of: Trial | None, meter: str) -> Reading | None:
        return of.readings.get(meter) if of else None

    return sum(max(limit.excess(reading(trial, limit.meter), reading(baseline, limit.meter)), 0.0) for limit in limits)


def _measured(trial: Trial, objectives: Sequence[Objective]) -> bool:
    return all(trial.value(objective.meter) is not None for objective in objectives)


def _value(trial: Trial, objective: Objective) -> float:
    value = trial.value(objective.meter)
    assert value is not None
    return value


def _losses(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Losses:
    rows = [[o.loss(_value(trial, o)) for o in objectives] for trial in trials]
    return np.array(rows, dtype=np.float64).reshape(len(trials), len(objectives))
