"""What to try next, read from a sweep: knobs at their bounds, unexplored corners, limits nearly met, the last gains."""

from collections.abc import Iterator, Mapping
from typing import Final, cast

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.report.corners import unexplored
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import ParettaError
from paretta.search_spaces.results.front import Front, missed_by
from paretta.search_spaces.space.holes import Float, Hole, Int
from paretta.search_spaces.space.space import Space

_AT_BOUND: Final = 0.02  # of the range
_NEARLY: Final = 0.05  # of the bound
_RECENT: Final = 10  # trials


def advice(record: SweepRecord, front: Front) -> list[str]:
    """Return sentences for the reader of the report; none before the front has members."""
    if not front.members:
        return []
    holes = _holes(record)
    tried = [trial.knobs for trial in record.trials.values() if trial.role == "trial"]
    return [*_bounds(holes, front), *unexplored(holes, tried), *_nearly_met(front), *_recent_gain(record)]


def _bounds(holes: Mapping[str, Hole], front: Front) -> Iterator[str]:
    """Yield the knobs whose best values lie at an end of their range."""
    members = [trial for trial in front if trial.knobs]
    for name, hole in holes.items():
        if not isinstance(hole, Float | Int):
            continue
        values = [value for trial in members if isinstance(value := trial.knobs.get(name), int | float)]
        margin = _AT_BOUND * (hole.high - hole.low)
        for end, word, inside in ((hole.high, "top", -1), (hole.low, "bottom", 1)):
            near = sum((value - end) * inside <= margin for value in values)
            if near > len(values) / 2 >= 1:
                held = f"in {near} of {len(values)} points of the front"
                yield f"{name} is at the {word} of its range ({end:g}) {held}: widen it if the stage allows."


def _holes(record: SweepRecord) -> dict[str, Hole]:
    """Return the knobs of the sweep's space; none if it names stages that are not here."""
    try:
        space = Space.parse(_steps(record, "baseline"), _steps(record, "space"))
    except ParettaError:
        return {}
    return {knob.name: knob.hole for knob in space.knobs()}


def _steps(record: SweepRecord, section: str) -> list[Mapping[str, Json]]:
    return cast(list[Mapping[str, Json]], record.config.get(section) or [])


def _nearly_met(front: Front) -> Iterator[str]:
    """Yield the trials that miss the sweep's limits by little, the nearest one of each limit."""
    infeasible = [trial for trial in front.trials if trial.status == "infeasible"]
    for limit in front.limits:
        missed = [(missed_by(trial, [limit], front.baseline), trial) for trial in infeasible]
        near = sorted((excess, trial.uid) for excess, trial in missed if 0 < excess <= _NEARLY)
        if near:
            excess, uid = near[0]
            yield f"{uid} misses the limit {limit} by only {100 * excess:.1f} %: see what a looser limit would give."


def _recent_gain(record: SweepRecord) -> Iterator[str]:
    """Yield what the last trials added to the hypervolume."""
    volumes = [step.hypervolume for step in record.history()]
    if len(volumes) <= _RECENT or not volumes[-1]:
        return
    gain = (volumes[-1] - volumes[-1 - _RECENT]) / volumes[-1]
    words = "more trials are likely to help" if gain > 0.01 else "more trials of this space will hardly help"
    yield f"The last {_RECENT} trials added {100 * gain:.1f} % to the hypervolume: {words}."
