"""Train and measure the baseline, which all relative numbers refer to."""

import math
from pathlib import Path

from paretta.orchestrator.sweeps.context import SweepContext, SweepFailed
from paretta.orchestrator.trials.events import TrialEnded, TrialProgress, TrialReturned
from paretta.orchestrator.trials.run_trial import artifact_name, new_trial, run_trial
from paretta.pipelines.artifact import verify_files
from paretta.search_spaces.errors import DamagedArtifact
from paretta.search_spaces.objectives.limits import Limit
from paretta.search_spaces.results.trial import Trial


def train_baseline(context: SweepContext) -> Trial:
    """Return the baseline's trial, from the journal or newly run.

    Its state is still running if the lanes returned it before it started, because the sweep stops.

    Raises:
        SweepFailed: the baseline failed, the disk is full, or a limit of the sweep can never be evaluated.
    """
    known = context.record.trials.get(context.trials.baseline)
    if known is not None and _is_whole(known, context.prepared.folder):
        return known
    trial = _train(context)
    if trial.status == "running":
        return trial
    context.log.trial(trial)
    if trial.status != "complete":
        raise SweepFailed(f"the baseline failed: {trial.reason}\n{trial.detail}".rstrip())
    _require_readable(context.prepared.sweep.limits, trial)
    return trial


def _is_whole(trial: Trial, folder: Path) -> bool:
    """Return True if the baseline is complete and its artifact, the reference of all comparisons, is undamaged."""
    try:
        return trial.status == "complete" and bool(verify_files(folder / artifact_name(trial.uid)))
    except DamagedArtifact:
        return False


def _train(context: SweepContext) -> Trial:
    plan = next(context.prepared.sweep.space.corners()).baseline_plan()
    trial = new_trial(0, plan, seed=context.trials.seed, knobs={}, role="baseline")
    context.log.trial(trial)
    for event in run_trial(trial, context.trials):
        context.stop_asked()
        match event:
            case TrialProgress(uid, message):
                context.log.progress(uid, message)
            case TrialEnded(ended):
                return ended
            case TrialReturned(why) if why is not None:
                raise context.failed(why)
    return trial


def _require_readable(limits: tuple[Limit, ...], baseline: Trial) -> None:
    """Raise if the baseline's readings show that a limit can never be evaluated."""
    for limit in limits:
        reading = baseline.readings[limit.meter]
        if math.isinf(limit.excess(reading, reading)):
            raise SweepFailed(f"limit {limit}: {limit.meter} was measured without a value in {limit.unit!r}")
