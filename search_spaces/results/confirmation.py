"""What training the front again with fresh seeds says of the claims that the search chose it by."""

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
    """One objective of one member of the front.

    Args:
        uid: of the member.
        objective: what was read.
        claimed: the reading that the search saw, on the validation split.
        fresh: the same reading of each confirmation.
        test: the member's reading on the test split, where it was read.
    """

    uid: str
    objective: Objective
    claimed: float
    fresh: tuple[float, ...]
    test: float | None

    @property
    def mean(self) -> float | None:
        """Mean over the fresh seeds; None where none was measured."""
        return fmean(self.fresh) if self.fresh else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over the fresh seeds, ``n - 1`` in the denominator; None for fewer than two."""
        return stdev(self.fresh) if len(self.fresh) > 1 else None


@dataclass(frozen=True, slots=True)
class Curse:
    """The winner's curse of one objective: by how much the members' claims are too good, mean over the members.

    A front keeps what looked best, luck included, so its claims are expected to be too good. Positive values mean that
    they are, in the unit of the readings.

    Args:
        objective: what was read.
        seeds: claim against the mean of fresh seeds; None where nothing was confirmed.
        test: validation against test split; None where the test split was not read.
    """

    objective: Objective
    seeds: float | None
    test: float | None


def confirmations(front: Front) -> tuple[Confirmed, ...]:
    """Return what became of the claims of each member that was confirmed, by member and objective."""
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


def winners_curse(front: Front) -> tuple[Curse, ...]:
    """Return the curse of each objective that was read again, on fresh seeds or on the test split."""
    again = {(found.uid, found.objective.meter): found for found in confirmations(front)}
    curses = []
    for objective in front.objectives:
        found = [again.get((t.uid, objective.meter)) or _confirmed(t, objective, ()) for t in front]
        seeds = _mean_loss(objective, [(c.mean, c.claimed) for c in found])
        test = _mean_loss(objective, [(c.test, c.claimed) for c in found])
        if seeds is not None or test is not None:
            curses.append(Curse(objective, seeds, test))
    return tuple(curses)


def confirmation_document(front: Front) -> dict[str, Json]:
    """Return both as plain data."""
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
    curses: dict[str, Json] = {c.objective.meter: {"seeds": c.seeds, "test": c.test} for c in winners_curse(front)}
    return {"confirmations": members, "winners_curse": curses}


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
    """Return the mean of later loss minus claimed loss over the pairs that have a later value."""
    worse = [objective.loss(later) - objective.loss(claimed) for later, claimed in pairs if later is not None]
    return fmean(worse) if worse else None
