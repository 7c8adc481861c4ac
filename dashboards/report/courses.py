"""What the report shows of each trial beside its readings: when and where it ran, its learning curve, its layers."""

from collections.abc import Sequence
from typing import Final

from paretta.dashboards.journal.course import Course
from paretta.dashboards.journal.record import SweepRecord
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

_MOST_CURVES: Final = 300
_MOST_LAYERS: Final = 4_000  # rows of tables, over all trials off the front


def courses(record: SweepRecord, trials: Sequence[Trial]) -> dict[str, Json]:
    """Return by uid ``[where, start, training began, measuring began, end]``, in seconds since the sweep started.

    A time is None if the trial did not get that far; the end of a running trial is the time of the last event.
    """

    def since_start(time: float | None) -> Json:
        return None if not time else round(max(time - record.started, 0.0), 1)

    found: dict[str, Json] = {}
    for trial in trials:
        course = record.courses.get(trial.uid, Course())
        times = [trial.started, course.trained, course.measured, trial.finished or record.updated]
        found[trial.uid] = [course.where, *map(since_start, times)]
    return found


def curves(record: SweepRecord, trials: Sequence[Trial]) -> dict[str, Json]:
    """Return ``{metric: {uid: [[epoch, score], ...]}}`` for the first objective that was scored during training.

    If there are many trials, only the last ones are included.
    """
    scored = [(trial, record.courses[trial.uid].scores) for trial in trials if trial.uid in record.courses]
    names = {name for _, scores in scored for values in scores.values() for name in values}
    metric = next((objective.meter for objective in record.objectives if objective.meter in names), None)
    if metric is None:
        return {}
    lines: dict[str, Json] = {}
    for trial, scores in scored[-_MOST_CURVES:]:
        points: list[Json] = [[epoch, float(f"{v[metric]:.6g}")] for epoch, v in sorted(scores.items()) if metric in v]
        if points:
            lines[trial.uid] = points
    return {metric: lines}


def layers_of(trials: Sequence[Trial], front: Front) -> dict[str, Json]:
    """Return facts on the layers of the baseline, of the front, and of further trials while they are few, by uid."""
    members = {trial.uid for trial in front}
    first = [trial for trial in trials if trial.role == "baseline" or trial.uid in members]
    others = [trial for trial in trials if trial.role != "baseline" and trial.uid not in members]
    found: dict[str, Json] = {trial.uid: dict(trial.layers) for trial in first if trial.layers}
    rows = 0
    for trial in others:
        rows += len(trial.layers)
        if trial.layers and rows <= _MOST_LAYERS:
            found[trial.uid] = dict(trial.layers)
    return found
