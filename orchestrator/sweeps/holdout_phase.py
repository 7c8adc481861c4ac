"""Freeze the front, and only then read the test split, once for each member; no decision depends on it."""

from paretta.orchestrator.sweeps.context import SweepContext
from paretta.orchestrator.trials.run_trial import artifact_name, keep_readings
from paretta.search_spaces.results.trial import Trial


def freeze_front(context: SweepContext) -> list[Trial]:
    """Return the members of the final front, which is fixed by the first call."""
    if context.record.frozen is None:
        context.log.front(tuple(trial.uid for trial in context.record.front().members))
    return [context.record.trials[uid] for uid in context.record.frozen or ()]


def read_test_split(context: SweepContext, members: list[Trial]) -> None:
    """Read the test split for members without test readings, until a stop is requested."""
    trials, baseline = context.trials, artifact_name(context.trials.baseline)
    for trial in members:
        if trial.test_readings or context.stop_asked():
            continue
        artifact = artifact_name(trial.uid)
        readings = trials.measuring.read(artifact, baseline, "test", answers_only=True)
        keep_readings(trials.files, artifact, trial.readings, readings)
        context.log.trial(trial.with_test_readings(readings))
