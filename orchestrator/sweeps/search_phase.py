"""Run the search: train and measure the sampler's candidates, continuing from the journal."""

import time
from functools import partial

from paretta.orchestrator.config.build_search import budget_of, suggester_of
from paretta.orchestrator.search.by_products import by_products
from paretta.orchestrator.sweeps.context import SweepContext
from paretta.orchestrator.sweeps.earlier import remember, taken_over
from paretta.orchestrator.trials.run_trial import artifact_name
from paretta.orchestrator.tune.callback import JournalCallback, Throttle, record_asked
from paretta.orchestrator.tune.resume import history, replay_history
from paretta.orchestrator.tune.search_alg import TuneSearcher
from paretta.orchestrator.tune.tuner import tuned
from paretta.search_spaces.errors import MEMORY_MEND
from paretta.search_spaces.results.trial import Trial

LANES_S = 2.0  # seconds between two looks at the number of lanes
NO_MEMORY = "out of memory: Ray has killed processes of the sweep"


def search_candidates(context: SweepContext, baseline: Trial) -> None:
    """Search to the end; if Ray's memory monitor ends Tune, restart it with the running trials, as long as trials end.

    Raises:
        SweepFailed: memory ran out repeatedly, the disk is full, or an actor that all trials need died.
        SweepStopped: a stop was requested.
    """
    _take_over(context)
    record, throttle = context.record, Throttle(LANES_S)
    ended, in_vain = len(record.endings), 0
    while not _searched(context, baseline, throttle):
        in_vain = in_vain + 1 if len(record.endings) == ended else 0
        if in_vain > context.trials.attempts:
            raise context.failed(f"{NO_MEMORY}; {MEMORY_MEND}")
        ended = len(record.endings)
        context.log.display.show_line(f"{NO_MEMORY}; the search goes on with the running trials")


def _take_over(context: SweepContext) -> None:
    """Add the fronts of earlier sweeps to this one."""
    for sweep in context.prepared.earlier:
        for trial in taken_over(sweep, context.prepared.folder, known=context.record.trials):
            context.log.trial(trial)


def _searched(context: SweepContext, baseline: Trial, throttle: Throttle) -> bool:
    """Continue the search from the journal to the end; return False if memory ran out, see `tune.tuner`."""
    prepared, display = context.prepared, context.log.display
    searcher = _searcher(context, baseline)

    def each_step() -> None:
        if context.stop_asked():
            searcher.close()
        elif throttle.due():
            _follow_lanes(context, searcher)

    callback = JournalCallback(context.log, each_step=each_step, on_returned=searcher.close)
    if not tuned(
        searcher,
        callback,
        context.trials,
        folder=prepared.folder / "ray",
        num_trials=prepared.sweep.config.search.trials,
        resources=prepared.cluster.trial_resources(),
    ):
        return False
    context.require_going_on()
    if callback.returned:
        raise context.failed(callback.why or "the job queue or the measuring actor died")
    if searcher.suggester.over is not None:
        display.show_line(f"the search ended early: {searcher.suggester.over}")
    return True


def _searcher(context: SweepContext, baseline: Trial) -> TuneSearcher:
    """Return the search in the state that the journal records, or a new one if the journal is empty."""
    prepared, trials = context.prepared, context.record.trials.values()
    deliver = prepared.sweep.config.deliver
    look = partial(context.trials.measuring.foresee, baseline=artifact_name(baseline.uid))
    began = min((trial.started for trial in trials if trial.role == "trial"), default=time.time())

    def make() -> TuneSearcher:
        suggester = suggester_of(prepared.sweep, prepared.checked, baseline.readings, look, prepared.experience)
        for sweep in prepared.earlier:
            remember(suggester, sweep)
        return TuneSearcher(
            suggester,
            max_running=context.num_lanes + 1,
            asked=partial(record_asked, context.log, context.trials.seed),
            budget=budget_of(prepared.sweep, prepared.num_lanes, began),
            by_products=by_products(deliver.variants, deliver.at_most),
        )

    searcher, same = replay_history(make, tuple(history(prepared.folder)))
    if not same:
        context.log.display.show_line("the sampler would now make other suggestions; it goes on from the same results")
    for trial in [trial for trial in trials if trial.role == "delivered"]:
        searcher.add_trial(trial)
    return searcher


def _follow_lanes(context: SweepContext, searcher: TuneSearcher) -> None:
    """On a shared cluster, run as many trials as there are lanes, and give lanes back that no trial will need."""
    if context.elastic is not None:
        searcher.max_running = context.num_lanes + 1
        context.elastic.need(max(1, len(searcher.live)) if searcher.has_asked_all else None)
