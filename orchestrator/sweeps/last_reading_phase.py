"""Read the times of the front once more, side by side in one process, when nothing else of the sweep runs."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np

from paretta.orchestrator.sweeps.context import SweepContext
from paretta.orchestrator.trials.run_trial import artifact_name, keep_readings
from paretta.pipelines.measuring.intervals import FULL_SPEED, VISIT_SPREAD, visit_spread, widened
from paretta.search_spaces.errors import TrialFailed
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.pareto import non_dominated
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

MAX_PASSES: Final = 2  # what was off the front may join it once its members are read again
LONGEST_S: Final = 300.0  # of one pass
_CALLS: Final = 56  # of each model at least: 8 rounds of warm-up and blocks


def read_side_by_side(context: SweepContext) -> None:
    """Give the front, and what cannot be told apart from it, readings of their times from the same rounds.

    During the search each trial was visited once, while others trained, so that two of them may differ by the state
    that the machine was in. These readings are the front's numbers. How far they are from the first ones says how much
    two visits differ on this machine, which becomes part of their intervals. Where a sweep times nothing, nothing is
    done.
    """
    if context.record.frozen is not None:
        return
    for trial in _unaware_of_slow_visits(context.record.trials.values()):
        context.log.trial(trial)
    for _ in range(MAX_PASSES):
        waiting = [trial for trial in _contenders(context) if not _is_read(trial)]
        if not waiting or context.stop_asked() or _is_too_long(context, waiting):
            return
        context.log.display.show_line(f"the times of {len(waiting)} models are read once more, side by side")
        names = [artifact_name(trial.uid) for trial in waiting]
        try:
            found = context.trials.measuring.read_together(names, artifact_name(context.trials.baseline))
        except TrialFailed as error:
            context.log.display.show_line(f"the front keeps the times that the search read: {error.reason}")
            return
        if not found:
            return
        _take(context, waiting, found)


def _contenders(context: SweepContext) -> list[Trial]:
    """Return the baseline, the front, and whom times within their intervals could bring there, where they are timed."""
    front = context.record.front()
    baseline = [front.baseline] if front.baseline is not None else []
    trials = {trial.uid: trial for trial in (*baseline, *front, *front.undecided, *_possible(front))}
    return [trial for trial in trials.values() if trial.artifact is not None and _timed(trial.readings)]


def _possible(front: Front) -> list[Trial]:
    """Return the trials that no other would beat if they were as fast, and it as slow, as the intervals allow.

    Everything but times is taken as it was read, since it will not be read again.
    """
    eligible = [trial for trial in front.eligible() if _timed(trial.readings)]
    if not eligible:
        return []
    best, worst = (np.array([_losses(trial, front.objectives, end) for trial in eligible]) for end in ("low", "high"))
    sure = worst[non_dominated(worst)]
    beaten = [bool(((sure <= row).all(axis=1) & (sure < row).any(axis=1)).any()) for row in best]
    return [trial for trial, lost in zip(eligible, beaten, strict=True) if not lost]


def _losses(trial: Trial, objectives: Sequence[Objective], end: Literal["low", "high"]) -> list[float]:
    """Return one loss an objective, of times the given end of the interval."""
    timed = _timed(trial.readings)
    values = [getattr(timed[o.meter], end) if o.meter in timed else None for o in objectives]
    return [
        objective.loss(trial.readings[objective.meter].value or 0.0) if value is None else objective.loss(value)
        for objective, value in zip(objectives, values, strict=True)
    ]


def _timed(readings: Mapping[str, Reading]) -> dict[str, Reading]:
    """Return the readings that compare with the baseline's time."""
    return {meter: reading for meter, reading in readings.items() if "baseline_seconds" in reading.details}


def _is_read(trial: Trial) -> bool:
    return all("read_at" in reading.details for reading in _timed(trial.readings).values())


def _is_too_long(context: SweepContext, trials: Sequence[Trial]) -> bool:
    timed = [reading for trial in trials for reading in _timed(trial.readings).values()]
    expected = _CALLS * sum(reading.value_in("s") or 0.0 for reading in timed)
    if expected > LONGEST_S:
        note = f"the front keeps the times that the search read: reading {len(trials)} models again takes too long"
        context.log.display.show_line(note)
    return expected > LONGEST_S


def _take(context: SweepContext, trials: Sequence[Trial], found: Sequence[Mapping[str, Reading]]) -> None:
    now = time.time()
    spreads = {meter: _learned(trials, found, meter) for meter in found[0]}
    for trial, readings in zip(trials, found, strict=True):
        fresh = {meter: _final(reading, spreads[meter], now) for meter, reading in readings.items() if reading.value}
        again = replace(trial, readings={**trial.readings, **fresh})
        keep_readings(context.trials.files, artifact_name(trial.uid), again.readings)
        context.log.trial(again)


def _learned(trials: Sequence[Trial], found: Sequence[Mapping[str, Reading]], meter: str) -> float:
    """Return the spread of a visit, from the models that were visited twice while the machine ran at full speed.

    The baseline against itself says nothing, as what the machine does to it cancels.
    """
    pairs = [
        (before.value, after.value)
        for trial, readings in zip(trials, found, strict=True)
        if trial.role != "baseline" and (before := trial.readings[meter]).value and (after := readings[meter]).value
        if before.details.get("slowness", 1.0) == after.details.get("slowness", 1.0) == 1.0
    ]
    first, second = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return visit_spread(first, second)


def _final(reading: Reading, spread: float, now: float) -> Reading:
    """Put what the sweep learned of its machine into the interval, in the place of what was expected of any."""
    more = math.sqrt(max(spread**2 - VISIT_SPREAD**2, 0.0))
    details = {**reading.details, "visit_spread": spread, "read_at": now}
    return replace(_wider(reading, spread=more), details=details)


def _unaware_of_slow_visits(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that were timed while the machine was slow before anybody knew its full speed, now marked.

    Their intervals reach as far as the baseline was slower than in the sweep's fastest visit.
    """
    measured = [trial for trial in trials if trial.is_measured and trial.role != "confirmation"]
    marked = []
    for meter in {meter for trial in measured for meter in _timed(trial.readings)}:
        timed = [trial for trial in measured if meter in _timed(trial.readings)]
        best = min(_baseline_seconds(trial.readings[meter]) for trial in timed)
        for trial in timed:
            reading = trial.readings[meter]
            slowness = _baseline_seconds(reading) / best
            if slowness > FULL_SPEED and reading.details.get("slowness", 1.0) == 1.0:
                details = {**reading.details, "slowness": slowness, "contended": True}
                wider = replace(_wider(reading, spread=math.log(slowness)), details=details)
                marked.append(replace(trial, readings={**trial.readings, meter: wider}))
    return marked


def _baseline_seconds(reading: Reading) -> float:
    return float(reading.details["baseline_seconds"])


def _wider(reading: Reading, *, spread: float) -> Reading:
    if reading.value is None or reading.low is None or reading.high is None or spread == 0.0:
        return reading
    low, high = widened(reading.low, reading.high, at=reading.value, spread=spread)
    return replace(reading, low=low, high=high)
