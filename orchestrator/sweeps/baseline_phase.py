"""Train and measure the baseline, which all relative numbers refer to."""

import math
from pathlib import Path

from paretta.orchestrator.sweeps.context import SweepContext, SweepFailed
from paretta.orchestrator.trials.events import TrialEnded, TrialProgress, TrialReturned
from paretta.orchestrator.trials.run_trial import artifact_name, new_trial, run_trial
from paretta.pipelines.artifact import verify_files
from paretta.pipelines.stage import stages_of
from paretta.pipelines.task import Split
from paretta.pipelines.training.settings import TrainSettings
from paretta.search_spaces.errors import DamagedArtifact, Problem, TrialFailed, WrongInput
from paretta.search_spaces.faults import TRACEBACK_VARIABLE
from paretta.search_spaces.objectives.limits import Limit
from paretta.search_spaces.results.trial import Trial


def train_baseline(context: SweepContext) -> Trial:
    """Return the baseline's trial, from the journal or newly run.

    Its state is still running if the lanes returned it before it started, because the sweep stops.

    Raises:
        WrongInput: the baseline failed because of the user's data or code, such as a sample that cannot be read.
        SweepFailed: it failed otherwise, the disk is full, or a limit of the sweep can never be evaluated.
    """
    known = context.record.trials.get(context.trials.baseline)
    if known is not None and _is_whole(known, context.prepared.folder):
        return known
    require_test_split(context)
    if _first_read_by_trials(context):
        _require_split(context, "train")
    ended = _train(context)
    trial = ended.trial
    if trial.status == "running":
        return trial
    context.log.trial(trial)
    if trial.status != "complete":
        hint = f"set {TRACEBACK_VARIABLE}=1 to see the traceback" if trial.detail else ""
        problem = Problem("the baseline failed", str(trial.reason), hint=hint)
        cause = TrialFailed(str(trial.reason), trial.detail)
        raise (WrongInput(problem) if ended.by_input else SweepFailed(str(problem))) from cause
    _require_readable(context.prepared.sweep.limits, trial)
    return trial


def require_test_split(context: SweepContext) -> None:
    """Read the samples of the test split, which nothing else reads before the front is frozen; no model answers them.

    Raises:
        WrongInput: a sample cannot be read.
    """
    _require_split(context, "test")


def _first_read_by_trials(context: SweepContext) -> bool:
    """Return whether trials would be the first to read the whole training split, since the baseline trains nothing."""
    baseline = stages_of(next(context.prepared.sweep.space.corners()).baseline_plan())
    if any(isinstance(stage, TrainSettings) for stage in baseline):
        return False
    checked = context.prepared.checked
    return checked.epochs > 0 and checked.task.stream is None


def _require_split(context: SweepContext, split: Split) -> None:
    try:
        context.trials.measuring.require_readable(split)
    except TrialFailed as error:
        words = {"test": "the test split", "train": "the training split", "validation": "the validation split"}[split]
        raise context.failed(f"{words}: {error.reason}", by_input=error.by_input) from error


def _is_whole(trial: Trial, folder: Path) -> bool:
    """Return True if the baseline is complete and its artifact, the reference of all comparisons, is undamaged."""
    try:
        return trial.status == "complete" and bool(verify_files(folder / artifact_name(trial.uid)))
    except DamagedArtifact:
        return False


def _train(context: SweepContext) -> TrialEnded:
    plan = next(context.prepared.sweep.space.corners()).baseline_plan()
    trial = new_trial(0, plan, seed=context.trials.seed, knobs={}, role="baseline")
    context.log.trial(trial)
    for event in run_trial(trial, context.trials):
        context.stop_asked()
        match event:
            case TrialProgress(uid, message):
                context.log.progress(uid, message)
            case TrialEnded():
                return event
            case TrialReturned(why) if why is not None:
                raise context.failed(why)
    return TrialEnded(trial)


def _require_readable(limits: tuple[Limit, ...], baseline: Trial) -> None:
    """Raise if the baseline's readings show that a limit can never be evaluated."""
    for limit in limits:
        reading = baseline.readings[limit.meter]
        if math.isinf(limit.excess(reading, reading)):
            raise SweepFailed(f"limit {limit}: {limit.meter} was measured without a value in {limit.unit!r}")
