"""Freeze the front, and only then read the test split, once for each member; no decision depends on it."""

from paretta.orchestrator.sweeps.context import SweepContext
from paretta.orchestrator.trials.run_trial import artifact_name, keep_readings
from paretta.search_spaces.errors import TrialFailed
from paretta.search_spaces.results.trial import Trial


def freeze_front(context: SweepContext) -> list[Trial]:
    """Return the members of the final front, which is fixed by the first call."""
    if context.record.frozen is None:
        context.log.front(tuple(trial.uid for trial in context.record.front().members))
    return [context.record.trials[uid] for uid in context.record.frozen or ()]


def read_test_split(context: SweepContext, members: list[Trial]) -> None:
    """Read the test split for members without test readings, until a stop is requested.

    Raises:
        WrongInput: the user's data or code fails, such as a sample that cannot be read.
        SweepFailed: the test split cannot be read for another reason.
    """
    trials, baseline = context.trials, artifact_name(context.trials.baseline)
    for trial in members:
        if trial.test_readings or context.stop_asked():
            continue
        artifact = artifact_name(trial.uid)
        try:
            readings = trials.measuring.read(artifact, baseline, "test", answers_only=True)
        except TrialFailed as error:
            raise context.failed(f"the test split: {error.reason}", by_input=error.by_input) from error
        keep_readings(trials.files, artifact, trial.readings, readings)
        context.log.trial(trial.with_test_readings(readings))
