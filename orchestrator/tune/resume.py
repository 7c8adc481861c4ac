"""Bring a new searcher to where an interrupted one was, by the journal alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

from paretta.dashboards.journal.journal import events
from paretta.orchestrator.tune.scheduler import rung_of
from paretta.orchestrator.tune.search_alg import STATUS_KEY, TuneSearcher
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.holes import Label
from paretta.search_spaces.space.plan import Plan


@dataclass(frozen=True, slots=True)
class RungReport:
    """What a trial said of itself on its way."""

    uid: str
    message: Document


SearchEvent: TypeAlias = Trial | RungReport


def history(folder: Path) -> Iterator[SearchEvent]:
    """Yield what became of a sweep's searched trials, in the journal's order: as asked, as reported, as ended.

    What was read of a trial after it had ended was no news to the search.
    """
    searched, ended = set[str](), set[str]()
    for event, _ in events(folder):
        if event["event"] == "trial":
            trial = Trial.from_document(cast(Document, event["trial"]))
            if trial.role != "trial" or (trial.uid in ended and trial.is_measured):
                continue
            searched.add(trial.uid)
            if trial.is_measured:
                ended.add(trial.uid)
            yield trial
        elif event["event"] == "progress" and event["uid"] in searched:
            yield RungReport(str(event["uid"]), cast(Document, event["message"]))


def replay_history(make: Callable[[], TuneSearcher], past: Sequence[SearchEvent]) -> tuple[TuneSearcher, bool]:
    """Return a searcher that has asked and been told all of `past`, and whether it is the one that was interrupted.

    Equal asks, reports and tells in equal order make an equal search: what it suggests next is what it would have
    suggested. Where another version of the sampler would have asked otherwise, a searcher that is given the same trials
    to learn from takes its place.

    Args:
        make: a searcher that has asked nothing.
        past: see `history`; what was asked and has not ended is suggested again, first.
    """
    searcher = make()
    same = all(_replay(searcher, step, pinned=False) for step in past)
    if not same:
        searcher = make()
        assert all(_replay(searcher, step, pinned=True) for step in past)
    trials = {trial.uid: trial for trial in past if isinstance(trial, Trial)}
    searcher.suggest_again(trials)
    return searcher, same


def _replay(searcher: TuneSearcher, step: SearchEvent, *, pinned: bool) -> bool:
    """Ask, report or tell once more what the journal holds; False where another plan would have been asked."""
    if isinstance(step, RungReport):
        _report(searcher, step)
        return True
    trial = step
    if trial.number > len(searcher.suggester.asked):
        suggestion = searcher.ask(trial.uid, cast("dict[str, Label]", dict(trial.knobs)) if pinned else None)
        if suggestion is None or not _equal(suggestion.plan, trial.plan):
            return False
    if trial.has_ended:
        values = {meter: reading.value for meter, reading in trial.readings.items()}
        searcher.on_trial_complete(trial.uid, {**values, STATUS_KEY: trial.status})
    return True


def _report(searcher: TuneSearcher, report: RungReport) -> None:
    suggester, key = searcher.suggester, searcher.live.get(report.uid)
    rung = rung_of(suggester.search.rungs, report.message)
    if key is not None and rung is not None:
        suggester.report(key, rung, cast(Mapping[str, float], report.message["scores"]))


def _equal(plan: Plan, other: Plan) -> bool:
    return plan.fingerprint == other.fingerprint
