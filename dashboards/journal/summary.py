"""What the record of a sweep comes to: the roles on its front, and the cost."""

import re
from collections.abc import Mapping
from typing import Final, cast

from paretta.dashboards.journal.record import SweepRecord
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

_BEST: Final[Mapping[str, str]] = {
    "size": "smallest",
    "latency": "fastest",
    "accuracy": "most accurate",
    "energy": "most frugal",
}


def best(meter: str) -> str:
    """Return the role of who is best by `meter`.

    >>> best("size"), best("nats")
    ('smallest', 'best nats')
    """
    return _BEST.get(meter, f"best {meter}")


def holders(front: Front) -> dict[str, Trial]:
    """Return who holds each role: the knee, the best of each objective, and the answers to the sweep's named wishes.

    A wish that no member meets is held by nobody.
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


def reused_words(trial: Trial) -> str:
    """Say which of the trial's stages were carried out before, and by whom; empty where it carried out all.

    >>> from paretta.search_spaces.space.plan import Plan
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
