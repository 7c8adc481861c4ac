"""Restore the state of an interrupted searcher from the journal alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

from paretta.dashboards.journal.journal import events
from paretta.orchestrator.tune.messages import STATUS_KEY
from paretta.orchestrator.tune.scheduler import rung_of
from paretta.orchestrator.tune.search_alg import TuneSearcher
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.holes import Label
from paretta.search_spaces.space.plan import Plan


@dataclass(frozen=True, slots=True)
class RungReport:
    """A trial's report at a rung."""

    uid: str
    message: Document


SearchEvent: TypeAlias = Trial | RungReport


def history(folder: Path) -> Iterator[SearchEvent]:
    """Yield the events of a sweep's searched trials in the journal's order: asked, reported and ended.

    Readings taken after a trial had ended are left out, because the search was not told of them.
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
    """Return a searcher that has replayed all of `past`, and whether its state equals that of the interrupted one.

    The same asks, reports and tells in the same order give the same search, which suggests next what the interrupted
    one would have suggested. If the sampler now asks for other plans, for example in a new version, the returned
    searcher instead learns the past trials as given points.

    Args:
        make: makes a new searcher.
        past: see `history`; trials that were asked and have not ended are suggested again, first.
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
    """Replay one event of the journal; return False if the search would have asked for another plan."""
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
