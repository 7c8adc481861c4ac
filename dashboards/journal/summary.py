"""Summaries of a sweep's record: the roles on its front, reused stages and total cost."""

from typing import cast

from paretta.dashboards.journal.record import SweepRecord
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.objectives.roles import best
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial


def holders(front: Front) -> dict[str, Trial]:
    """Return the member with each role: the knee, the best by each objective, and one for each of the sweep's wishes.

    A wish that no member fulfils is left out.
    """
    if not front.members:
        return {}
    held = {"knee": front.knee()}
    for objective in front.objectives:
        held[best(objective.meter)] = front.pick(prefer=objective.meter)
    for name, wish in front.wishes.items():
        try:
            held[name] = front.pick(prefer=wish.prefer, at_least=wish.at_least, at_most=wish.at_most)
        except WrongInput:
            continue
    return held


def roles(front: Front) -> dict[str, tuple[str, ...]]:
    """Return the roles of each member that has any, by uid; see `holders`. A member may have several."""
    held: dict[str, list[str]] = {}
    for role, trial in holders(front).items():
        held.setdefault(trial.uid, []).append(role)
    return {uid: tuple(names) for uid, names in held.items()}


def reused_words(trial: Trial) -> str:
    """Describe which of the trial's stages were reused and from which trial; empty if it computed all of them itself.

    >>> from paretta.search_spaces.space.plan import Plan
    >>> trial = Trial("0004", 4, Plan(()), 0, "complete", reused=({"stages": ["prune", "distill"], "trial": "0002"},))
    >>> reused_words(trial)
    'prune, distill by 0002'
    """
    own = {trial.uid: "itself, before an interruption"}
    parts = ((", ".join(cast(list[str], part["stages"])), str(part["trial"])) for part in trial.reused)
    return "; ".join(f"{stages} by {own.get(maker, maker)}" for stages, maker in parts)


def total_cost(record: SweepRecord) -> dict[str, float]:
    """Return the total cost of all trials, including the baseline, by the names of `Trial.cost`."""
    totals: dict[str, float] = {}
    for trial in record.trials.values():
        for name, amount in trial.cost.items():
            totals[name] = totals.get(name, 0.0) + amount
    return totals
