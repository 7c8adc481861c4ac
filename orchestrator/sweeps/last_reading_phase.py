"""Measure the latencies of the front again, side by side in one process, while nothing else of the sweep runs."""

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

MAX_PASSES: Final = 2  # passes; a trial off the front may join it after its members are measured again
LONGEST_S: Final = 300.0  # the longest time of one pass, in seconds
_CALLS: Final = 56  # the least number of calls of each model: 8 rounds of warm-up and blocks


def read_side_by_side(context: SweepContext) -> None:
    """Measure the front, and trials not distinguishable from it, together in the same rounds.

    During the search each trial was measured once, while others trained, so two readings may differ because of the
    machine's state. The new readings become the front's numbers. Their distance from the first ones tells how much two
    visits differ on this machine, which is included in the intervals. Does nothing in a sweep without a latency.
    """
    if context.record.frozen is not None:
        return
    for trial in _unaware_of_slow_visits(context.record.trials.values()):
        context.log.trial(trial)
    for _ in range(MAX_PASSES):
        waiting = [trial for trial in _contenders(context) if not _is_read(trial, context.record.extended)]
        if not waiting or context.stop_asked() or _is_too_long(context, waiting):
            return
        context.log.display.show_line(f"measuring the times of {len(waiting)} models again, side by side")
        names = [artifact_name(trial.uid) for trial in waiting]
        try:
            found = context.trials.measuring.read_together(names, artifact_name(context.trials.baseline))
        except TrialFailed as error:
            context.log.display.show_line(f"the front keeps the times measured during the search: {error.reason}")
            return
        if not found:
            return
        _take(context, waiting, found)


def _contenders(context: SweepContext) -> list[Trial]:
    """Return the baseline, the front and the trials that could join it within their intervals, if they have times."""
    front = context.record.front()
    baseline = [front.baseline] if front.baseline is not None else []
    trials = {trial.uid: trial for trial in (*baseline, *front, *front.undecided, *_possible(front))}
    return [trial for trial in trials.values() if trial.artifact is not None and _timed(trial.readings)]


def _possible(front: Front) -> list[Trial]:
    """Return the trials not dominated by any other if each is as fast, and the others as slow, as the intervals allow.

    All readings except times are taken as they are, since they are not measured again.
    """
    eligible = [trial for trial in front.eligible() if _timed(trial.readings)]
    if not eligible:
        return []
    best, worst = (np.array([_losses(trial, front.objectives, end) for trial in eligible]) for end in ("low", "high"))
    sure = worst[non_dominated(worst)]
    beaten = [bool(((sure <= row).all(axis=1) & (sure < row).any(axis=1)).any()) for row in best]
    return [trial for trial, lost in zip(eligible, beaten, strict=True) if not lost]


def _losses(trial: Trial, objectives: Sequence[Objective], end: Literal["low", "high"]) -> list[float]:
    """Return one loss per objective, using the given end of the interval for times."""
    timed = _timed(trial.readings)
    values = [getattr(timed[o.meter], end) if o.meter in timed else None for o in objectives]
    return [
        objective.loss(trial.readings[objective.meter].value or 0.0) if value is None else objective.loss(value)
        for objective, value in zip(objectives, values, strict=True)
    ]


def _timed(readings: Mapping[str, Reading]) -> dict[str, Reading]:
    """Return the readings that are relative to the baseline's time."""
    return {meter: reading for meter, reading in readings.items() if "baseline_seconds" in reading.details}


def _is_read(trial: Trial, since: float) -> bool:
    """Whether its times were read side by side with the others' after the search was last extended."""
    return all(float(reading.details.get("read_at", -1.0)) >= since for reading in _timed(trial.readings).values())


def _is_too_long(context: SweepContext, trials: Sequence[Trial]) -> bool:
    timed = [reading for trial in trials for reading in _timed(trial.readings).values()]
    expected = _CALLS * sum(reading.value_in("s") or 0.0 for reading in timed)
    if expected > LONGEST_S:
        why = f"measuring {len(trials)} models again takes too long"
        context.log.display.show_line(f"the front keeps the times measured during the search: {why}")
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
    """Return the spread between visits, from the models measured twice while the machine ran at full speed.

    The baseline is excluded: relative to itself, all effects of the machine cancel.
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
    """Replace the default visit spread in the interval by the one estimated for this machine."""
    more = math.sqrt(max(spread**2 - VISIT_SPREAD**2, 0.0))
    details = {**reading.details, "visit_spread": spread, "read_at": now}
    return replace(_wider(reading, spread=more), details=details)


def _unaware_of_slow_visits(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials timed on a slow machine before its full speed was known, marked as such.

    Their intervals are widened by the baseline's slowdown relative to the sweep's fastest visit.
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
