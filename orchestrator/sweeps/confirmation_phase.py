"""Train the frozen front again with new seeds, which shows how reliable its numbers are and does not change it."""

from paretta.orchestrator.sweeps.context import SweepContext
from paretta.orchestrator.trials.confirmation import confirm, repeats
from paretta.orchestrator.trials.events import TrialBegun, TrialEnded, TrialProgress, TrialReturned
from paretta.search_spaces.results.trial import Trial


def confirm_front(context: SweepContext, members: list[Trial]) -> None:
    """Run those confirmations of the front's members that have not ended yet."""
    search = context.prepared.sweep.config.search
    ended = {uid for uid, trial in context.record.trials.items() if trial.has_ended}
    left = [trial for trial in repeats(members, search.confirm, search.seed) if trial.uid not in ended]
    if context.elastic is not None and left:
        context.elastic.need(len(left))
    for event in confirm(left, context.trials, at_once=lambda: context.num_lanes + 1, stopped=context.stop_asked):
        match event:
            case TrialProgress(uid, message):
                context.log.progress(uid, message)
            case TrialBegun(trial) | TrialEnded(trial):
                context.log.trial(trial)
            case TrialReturned(why) if why is not None:
                raise context.failed(why)
