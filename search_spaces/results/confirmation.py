"""Confirmation: how the front's readings hold up when its members are trained again with other seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from paretta.search_spaces.canonical import Json
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial


@dataclass(frozen=True, slots=True)
class Confirmed:
    """One objective of one member of the front, read again.

    Args:
        uid: uid of the member.
        objective: the objective that was read.
        claimed: the member's own reading, on the validation split.
        fresh: the same reading of each confirmation.
        test: the member's reading on the test split; None if it was not read.
    """

    uid: str
    objective: Objective
    claimed: float
    fresh: tuple[float, ...]
    test: float | None

    @property
    def mean(self) -> float | None:
        """Mean over the new seeds; None if none was measured."""
        return fmean(self.fresh) if self.fresh else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over the new seeds, with ``n - 1`` in the denominator; None for fewer than two."""
        return stdev(self.fresh) if len(self.fresh) > 1 else None


@dataclass(frozen=True, slots=True)
class WinnersCurse:
    """Selection bias of one objective: by how much the members' readings are too good, averaged over the members.

    A front keeps the trials that measured best, by merit or by luck, so its readings are expected to be too good (the
    winner's curse). Positive values, in the unit of the readings, mean that they are.

    Args:
        objective: the objective that was read.
        seeds: the mean reading over new seeds, compared with the member's own; None if nothing was confirmed.
        test: the reading on the test split, compared with the validation split; None if the test split was not read.
    """

    objective: Objective
    seeds: float | None
    test: float | None


def confirmations(front: Front) -> tuple[Confirmed, ...]:
    """Return the repeated readings of each confirmed member, by member and objective."""
    repeats: dict[str, list[Trial]] = {}
    for trial in front.trials:
        if trial.role == "confirmation" and trial.of is not None and trial.has_ended:
            repeats.setdefault(trial.of, []).append(trial)
    return tuple(
        _confirmed(member, objective, repeats[member.uid])
        for member in front
        if member.uid in repeats
        for objective in front.objectives
    )


def winners_curse(front: Front) -> tuple[WinnersCurse, ...]:
    """Return the winner's curse of each objective that was read again, with new seeds or on the test split."""
    again = {(found.uid, found.objective.meter): found for found in confirmations(front)}
    biases = []
    for objective in front.objectives:
        found = [again.get((t.uid, objective.meter)) or _confirmed(t, objective, ()) for t in front]
        seeds = _mean_loss(objective, [(c.mean, c.claimed) for c in found])
        test = _mean_loss(objective, [(c.test, c.claimed) for c in found])
        if seeds is not None or test is not None:
            biases.append(WinnersCurse(objective, seeds, test))
    return tuple(biases)


def confirmation_document(front: Front) -> dict[str, Json]:
    """Return the confirmations and the winner's curse as plain data."""
    found = confirmations(front)
    members: list[Json] = [
        {
            "uid": member.uid,
            "num_failed": sum(t.of == member.uid and t.status == "failed" for t in front.trials),
            "readings": {c.objective.meter: _plain(c) for c in found if c.uid == member.uid},
        }
        for member in front
        if any(c.uid == member.uid for c in found)
    ]
    biases: dict[str, Json] = {b.objective.meter: {"seeds": b.seeds, "test": b.test} for b in winners_curse(front)}
    return {"confirmations": members, "winners_curse": biases}


def _plain(confirmed: Confirmed) -> Json:
    return {
        "claimed": confirmed.claimed,
        "mean": confirmed.mean,
        "spread": confirmed.spread,
        "num_seeds": len(confirmed.fresh),
    }


def _confirmed(member: Trial, objective: Objective, repeats: Sequence[Trial]) -> Confirmed:
    claimed = member.value(objective.meter)
    assert claimed is not None
    values = [trial.value(objective.meter) for trial in repeats if trial.status == "complete"]
    test: Reading | None = member.test_readings.get(objective.meter)
    fresh = tuple(value for value in values if value is not None)
    return Confirmed(member.uid, objective, claimed, fresh, test.value if test else None)


def _mean_loss(objective: Objective, pairs: Sequence[tuple[float | None, float]]) -> float | None:
    """Return the mean of later loss minus claimed loss over the pairs (later, claimed) that have a later value."""
    worse = [objective.loss(later) - objective.loss(claimed) for later, claimed in pairs if later is not None]
    return fmean(worse) if worse else None
