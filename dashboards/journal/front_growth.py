"""The growth of a sweep's front from trial to trial."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial


@dataclass(frozen=True, slots=True)
class GrowthStep:
    """The front after a trial ended.

    Args:
        number: number of trials that had ended, including the baseline.
        time: Unix time at which the trial ended.
        uid: the trial that ended.
        hypervolume: see `Front.hypervolume`.
        size: number of members of the front.
        best: the best value so far by meter.
    """

    number: int
    time: float
    uid: str
    hypervolume: float
    size: int
    best: Mapping[str, float]

    @classmethod
    def of(cls, front: Front, number: int, time: float, uid: str) -> Self:
        """Return the step after which the front is `front`."""
        return cls(number, time, uid, front.hypervolume, len(front), _best(front))


@dataclass(slots=True)
class Growth:
    """Updates the front as trials end; the hypervolume is computed only when the front changes."""

    front: Front
    steps: list[GrowthStep] = field(default_factory=list)

    def add(self, time: float, trial: Trial) -> None:
        """Add a trial that ended at `time`, in Unix seconds."""
        number, grown = len(self.steps) + 1, _with(self.front, trial)
        if self.steps and grown is self.front:
            self.steps.append(replace(self.steps[-1], number=number, time=time, uid=trial.uid))
        else:
            self.front = grown
            self.steps.append(GrowthStep.of(grown, number, time, trial.uid))


def _with(front: Front, trial: Trial) -> Front:
    """Return the front with one more trial, or the same object if the trial is not on the front."""
    if not trial.is_measured or trial.role == "confirmation":
        return front
    if (
        trial.role != "baseline"
        and not front.best_effort
        and any(_beats(member, trial, front.objectives) for member in front)
    ):
        return front
    baseline = (front.baseline,) if front.baseline else ()
    others = (t for t in front if t.role != "baseline" and t.uid != trial.uid)
    everything = (*baseline, *others, trial)
    grown = Front.of(everything, front.objectives, limits=front.limits, reference=front.reference)
    return grown if trial.role == "baseline" or any(member is trial for member in grown) else front


def _beats(member: Trial, trial: Trial, objectives: Sequence[Objective]) -> bool:
    """Return whether a member is better in every objective, a cheap test that avoids recomputing most fronts."""
    pairs = ((o, member.value(o.meter), trial.value(o.meter)) for o in objectives)
    return all(ours is not None and its is not None and o.loss(ours) < o.loss(its) for o, ours, its in pairs)


def _best(front: Front) -> dict[str, float]:
    values = {o.meter: [v for t in front if (v := t.value(o.meter)) is not None] for o in front.objectives}
    return {o.meter: (min if o.goal == "min" else max)(values[o.meter]) for o in front.objectives if values[o.meter]}
