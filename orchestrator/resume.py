"""Bring a new searcher to where an interrupted one was, by the journal alone."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

from dashboards.journal import events
from orchestrator.searcher import STATUS, TuneSearcher, config_of
from search_spaces.holes import Label
from search_spaces.plan import Document, Plan
from search_spaces.trial import Trial


def history(folder: Path) -> Iterator[Trial]:
    """Yield the searched trials of a sweep as its journal tells of them, in order: each as asked, then as ended."""
    for event, _ in events(folder):
        if event["event"] == "trial":
            trial = Trial.from_document(cast(Document, event["trial"]))
            if trial.role == "trial":
                yield trial


def caught_up(make: Callable[[], TuneSearcher], past: Sequence[Trial]) -> tuple[TuneSearcher, bool]:
    """Return a searcher that has asked and been told all of `past`, and whether it is the one that was interrupted.

    Equal asks and tells in equal order make an equal search: what it suggests next is what it would have suggested.
    Where another version of the sampler would have asked otherwise, a searcher that is given the same trials to learn
    from takes its place.

    Args:
        make: a searcher that has asked nothing.
        past: see `history`; what was asked and has not ended is suggested again, first.
    """
    searcher = make()
    same = all(_relive(searcher, trial, pinned=False) for trial in past)
    if not same:
        searcher = make()
        assert all(_relive(searcher, trial, pinned=True) for trial in past)
    plans = {trial.uid: trial for trial in past}
    unfinished = sorted(searcher.live.items(), key=lambda item: item[1])
    searcher.waiting.extend(config_of(number, plans[uid].plan, plans[uid].knobs) for uid, number in unfinished)
    searcher.live.clear()
    return searcher, same


def _relive(searcher: TuneSearcher, trial: Trial, *, pinned: bool) -> bool:
    """Ask or tell once more what the journal holds; False where another plan would have been asked."""
    if trial.number > len(searcher.suggester.asked):
        suggestion = searcher.ask(trial.uid, cast("dict[str, Label]", dict(trial.knobs)) if pinned else None)
        if suggestion is None or not _equal(suggestion.plan, trial.plan):
            return False
    if trial.status != "running":
        values = {meter: reading.value for meter, reading in trial.readings.items()}
        searcher.on_trial_complete(trial.uid, {**values, STATUS: trial.status})
    return True


def _equal(plan: Plan, other: Plan) -> bool:
    return plan.fingerprint == other.fingerprint
