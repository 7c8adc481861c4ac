"""What the record of a sweep comes to: the roles on its front, the front's growth, and the cost."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from dashboards.journal import SweepRecord
from search_spaces.errors import WrongInput
from search_spaces.front import Front
from search_spaces.trial import Trial

_BEST: Final[Mapping[str, str]] = {
    "size": "smallest",
    "latency": "fastest",
    "accuracy": "most accurate",
    "energy": "most frugal",
}


def holders(front: Front) -> dict[str, Trial]:
    """Return who holds each role: the knee, the best of each objective, and the answers to the sweep's named wishes.

    A wish that no member meets is held by nobody.
    """
    if not front.members:
        return {}
    held = {"knee": front.knee()}
    for objective in front.objectives:
        held[_BEST.get(objective.meter, f"best {objective.meter}")] = front.pick(prefer=objective.meter)
    for name, wish in front.wishes.items():
        try:
            held[name] = front.pick(prefer=wish.prefer, at_least=wish.at_least, at_most=wish.at_most)
        except WrongInput:
            continue
    return held


def roles(front: Front) -> dict[str, tuple[str, ...]]:
    """Name the roles of the members that hold any, see `holders`.

    Returns:
        roles by uid; a member may hold several.
    """
    held: dict[str, list[str]] = {}
    for role, trial in holders(front).items():
        held.setdefault(trial.uid, []).append(role)
    return {uid: tuple(names) for uid, names in held.items()}


def alias(role: str) -> str:
    """Return a role as one word: what MLflow's registry calls its holder.

    >>> alias("most accurate")
    'most-accurate'
    """
    return re.sub(r"[^A-Za-z0-9_-]", "-", role)


@dataclass(frozen=True, slots=True)
class Step:
    """The front after a trial ended.

    Args:
        number: how many trials had ended, the baseline counted.
        time: Unix time of the ending.
        uid: the trial that ended.
        hypervolume: see `Front.hypervolume`.
        size: members of the front.
        best: the best value so far by meter.
    """

    number: int
    time: float
    uid: str
    hypervolume: float
    size: int
    best: Mapping[str, float]


@dataclass(slots=True)
class Growth:
    """Follows the front from ending to ending; the hypervolume is worked out only where the front changed."""

    front: Front
    step: Step = Step(0, 0.0, "", 0.0, 0, {})

    def add(self, time: float, trial: Trial) -> Step:
        """Take in a trial that ended at `time` (Unix seconds) and return the step it makes."""
        grown = _with(self.front, trial)
        number = self.step.number + 1
        if grown is self.front:
            self.step = Step(number, time, trial.uid, self.step.hypervolume, self.step.size, self.step.best)
        else:
            self.front = grown
            self.step = Step(number, time, trial.uid, grown.hypervolume, len(grown), _best(grown))
        return self.step


def history(record: SweepRecord) -> list[Step]:
    """Return the front's growth, one step per ended trial, in the order of the journal."""
    growth = Growth(Front.of((), record.objectives, limits=record.limits, reference=record.reference))
    return [growth.add(time, trial) for time, trial in record.endings]


def _with(front: Front, trial: Trial) -> Front:
    """Return the front with one more trial, or the very same front where the trial does not belong to it."""
    if trial.status != "complete" or trial.role == "confirmation":
        return front
    baseline = (front.baseline,) if front.baseline else ()
    others = (t for t in front if t.role != "baseline" and t.uid != trial.uid)
    everything = (*baseline, *others, trial)
    grown = Front.of(everything, front.objectives, limits=front.limits, reference=front.reference)
    return grown if trial.role == "baseline" or any(member is trial for member in grown) else front


def _best(front: Front) -> dict[str, float]:
    values = {o.meter: [v for t in front if (v := t.value(o.meter)) is not None] for o in front.objectives}
    return {o.meter: (min if o.goal == "min" else max)(values[o.meter]) for o in front.objectives if values[o.meter]}


def reused_words(trial: Trial) -> str:
    """Say which of the trial's stages were carried out before, and by whom; empty where it carried out all.

    >>> from search_spaces.plan import Plan
    >>> trial = Trial("0004", 4, Plan(()), 0, "complete", reused=({"stages": ["prune", "distill"], "trial": "0002"},))
    >>> reused_words(trial)
    'prune, distill by 0002'
    """
    own = {trial.uid: "itself, before an interruption"}
    parts = ((", ".join(cast(list[str], part["stages"])), str(part["trial"])) for part in trial.reused)
    return "; ".join(f"{stages} by {own.get(maker, maker)}" for stages, maker in parts)


def total_cost(record: SweepRecord) -> dict[str, float]:
    """Add up what the trials cost, the baseline included, by the names of `Trial.cost`."""
    totals: dict[str, float] = {}
    for trial in record.trials.values():
        for name, amount in trial.cost.items():
            totals[name] = totals.get(name, 0.0) + amount
    return totals
