"""A searcher that replays a journal suggests what the interrupted one would have suggested."""

import errno
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
from ray.exceptions import ActorDiedError
from ray.tune.experiment import Trial as TuneTrial

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.monitor.event_log import EventLog
from paretta.orchestrator.policy.problem import Rungs
from paretta.orchestrator.search.interfaces import Stopper, Strategy
from paretta.orchestrator.search.spec import Search
from paretta.orchestrator.search.suggester import Suggester
from paretta.orchestrator.trials.events import RunEvent, TrialReturned
from paretta.orchestrator.trials.run_trial import new_trial
from paretta.orchestrator.tune.callback import JournalCallback
from paretta.orchestrator.tune.messages import RETURNED, STATUS_KEY, TuneConfig, key_of
from paretta.orchestrator.tune.resume import RungReport, SearchEvent, history, replay_history
from paretta.orchestrator.tune.search_alg import TuneSearcher
from paretta.orchestrator.tune.trainable import TRIAL, CandidateTrial, trial_from_config
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.registry import SAMPLERS, STOPPERS
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.space import Space

SPACE = Space.parse(
    [],
    [
        {"choice": [None, {"kind": "prune", "sparsity": {"float": [0.1, 0.9]}}]},
        {"kind": "quantize", "bits": {"int": [2, 8]}},
    ],
)
OBJECTIVES = (Objective("size", "min", "B"), Objective("accuracy", "max", "share"))
RUNGS = Rungs((1.0, 3.0, 9.0), (1.25, 3.25, 9.25))
RUNNING, ENDED = ("running",), ("complete", "failed", "stopped early")
BASELINE = {"size": Reading(800.0, "B"), "accuracy": Reading(0.99, "share")}


def maker(sampler: str, num_trials: int = 30, seed: int = 5) -> Callable[[], TuneSearcher]:
    def make() -> TuneSearcher:
        search = Search(SPACE, OBJECTIVES, num_trials, seed, baseline=BASELINE, rungs=RUNGS)
        strategy = cast(Callable[[Search], Strategy], SAMPLERS.load(sampler))(search)
        stopper = cast(Callable[[Search, Strategy], Stopper], STOPPERS.load("index"))(search, strategy)
        return TuneSearcher(Suggester(search, strategy, stopper), max_running=3)

    return make


def readings(trial: Trial) -> dict[str, Reading]:
    bits, sparsity = float(str(trial.knobs["quantize.bits"])), float(str(trial.knobs.get("prune.sparsity") or 0.0))
    size, accuracy = 100 * bits * (1 - sparsity), 1 - 0.5 / bits - sparsity**2 / 2
    return {"size": Reading(size, "B"), "accuracy": Reading(accuracy, "share")}


def ended(trial: Trial) -> Trial:
    """Every fifth trial fails, the others are as good as their knobs."""
    if trial.number % 5 == 0:
        return replace(trial, status="failed", reason="on purpose")
    return replace(trial, status="complete", readings=readings(trial))


def drive(searcher: TuneSearcher, *, begin: int = 0, end: int = 99) -> list[SearchEvent]:
    """Run three trials at a time from the ending number `begin` to `end`; return the journal's view of it.

    Which of the three ends next depends on that number alone, and is not always the oldest. Each reports once, and is
    stopped where the searcher says so.
    """
    past: list[SearchEvent] = []
    live: dict[int, tuple[str, Trial, bool]] = {}
    for count in range(begin, end):
        while isinstance(config := searcher.suggest(f"tune-{count}-{len(past)}"), dict):
            trial, name = trial_from_config(cast(TuneConfig, config), seed=0), f"tune-{count}-{len(past)}"
            scores = {"accuracy": cast(float, readings(trial)["accuracy"].value) - 0.05}
            past += [trial, RungReport(trial.uid, {"epoch": 1, "num_epochs": 9, "scores": scores})]
            live[trial.number] = name, trial, searcher.suggester.report(key_of(config), 0, scores)
        if not live:
            break
        name, trial, goes_on = live.pop(sorted(live)[count % len(live)])
        trial = ended(trial) if goes_on else replace(trial, status="stopped early", reason="not worth its epochs")
        past.append(trial)
        values = {meter: reading.value for meter, reading in trial.readings.items()}
        searcher.on_trial_complete(name, {**values, STATUS_KEY: trial.status})
    return past


def trials(past: Sequence[SearchEvent]) -> list[Trial]:
    return [step for step in past if isinstance(step, Trial)]


def plans(past: Sequence[SearchEvent]) -> list[str]:
    return [trial.uid for trial in trials(past) if trial.status == "running"]


@pytest.mark.parametrize("sampler", sorted({*SAMPLERS.names()} - {"gp"}))  # decides too slowly
@pytest.mark.parametrize("num_ends", [0, 1, 17])
def test_every_sampler_goes_on_as_if_never_interrupted(sampler: str, num_ends: int) -> None:
    make = maker(sampler)
    whole = plans(drive(make()))
    past = drive(make(), end=num_ends)
    searcher, same = replay_history(make, past)
    assert same
    unfinished = [config["number"] for config in searcher.waiting]
    asked, told = ({t.number for t in trials(past) if t.status in kind} for kind in (RUNNING, ENDED))
    assert unfinished == sorted(asked - told)
    rest = plans(drive(searcher, begin=num_ends))
    assert sorted({*plans(past), *rest}) == sorted(whole)
    assert len(searcher.suggester.asked) == 30
    assert searcher.suggester.running == ()


def test_a_search_that_would_ask_otherwise_learns_from_the_same_trials() -> None:
    past = drive(maker("random", seed=1)(), end=9)
    searcher, same = replay_history(maker("tpe", seed=2), past)
    assert not same
    told = [entry.verdict for entry in searcher.suggester.asked]
    by_number = {trial.number: trial.status for trial in trials(past)}
    assert told == [by_number[n] if by_number[n] != "running" else None for n in sorted(by_number)]
    suggested = drive(searcher, begin=9)
    assert {trial.number for trial in trials(suggested)} | set(by_number) == set(range(1, 31))


def test_a_returned_trial_stays_open() -> None:
    searcher = maker("random")()
    config = cast(TuneConfig, searcher.suggest("a"))
    searcher.on_trial_complete("a", {STATUS_KEY: RETURNED})
    assert searcher.suggester.running == (key_of(config),)
    searcher.close()
    assert searcher.suggest("b") == TuneSearcher.FINISHED


def test_nothing_of_the_search_is_pickled(tmp_path: Path) -> None:
    searcher = maker("tpe")()
    searcher.save(str(tmp_path / "state"))
    assert (tmp_path / "state").read_bytes() == b""
    assert b"suggester" not in pickle.dumps(searcher)


def test_the_journal_has_the_history_in_order_and_one_writer(tmp_path: Path) -> None:
    past = drive(maker("random")(), end=4)
    baseline = new_trial(0, trials(past)[0].plan, seed=0, knobs={}, role="baseline")
    with Journal(tmp_path) as journal:
        journal.sweep(name="s", config={}, objectives=(), facts={})
        journal.trial(baseline)
        journal.progress(baseline.uid, {"epoch": 1, "num_epochs": 9, "scores": {"accuracy": 0.5}})
        for step in past:
            if isinstance(step, Trial):
                journal.trial(step)
            else:
                journal.progress(step.uid, step.message)
        journal.resumed({"versions": {"ray": "0"}})
        with pytest.raises(WrongInput, match="another process is running this sweep"):
            Journal(tmp_path)
    assert list(history(tmp_path)) == past
    Journal(tmp_path).__exit__(None, None, None)
    assert SweepRecord.read(tmp_path).count("running") == len(plans(past)) - 4


def test_what_is_read_after_a_trial_ended_is_no_news_to_the_search(tmp_path: Path) -> None:
    begun = new_trial(1, next(SPACE.corners()), seed=0, knobs={})
    failed = replace(begun, status="failed", reason="on purpose")
    done = replace(begun, status="complete", readings={"size": Reading(1.0, "B")})
    with Journal(tmp_path) as journal:
        for trial in (begun, failed, begun, done, replace(done, readings={"size": Reading(2.0, "B")})):
            journal.trial(trial)
    assert list(history(tmp_path)) == [begun, failed, begun, done]


def test_a_candidate_is_not_blamed_for_the_death_of_the_job_queue() -> None:
    def lost() -> Iterator[RunEvent]:
        raise ActorDiedError
        yield

    trial = CandidateTrial.__new__(CandidateTrial)
    trial.events = lost()
    assert trial.step() == {STATUS_KEY: RETURNED, "done": True}


@dataclass
class OfTune:
    """What the callback asks of Tune's trial."""

    config: TuneConfig
    error: Exception | None = None

    def get_error(self) -> Exception | None:
        return self.error


def test_a_candidate_is_not_blamed_for_a_full_disk(tmp_path: Path) -> None:
    config, full = maker("random")().suggest("a"), "the disk is full: [Errno 28] No space left on device"
    assert isinstance(config, dict)
    closed: list[str] = []

    class FullLog:
        record = SweepRecord()

        def trial(self, trial: Trial) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    def callback() -> JournalCallback:
        return JournalCallback(cast(EventLog, FullLog()), on_returned=lambda: closed.append("closed"))

    body = CandidateTrial.__new__(CandidateTrial)
    body.events = iter([TrialReturned(full)])
    returned, of_tune = callback(), cast(TuneTrial, OfTune(config))
    returned.on_trial_result(1, [], of_tune, body.step())
    assert (returned.why, len(returned.returned), closed) == (full, 1, ["closed"])
    died = callback()
    died.on_trial_error(1, [], cast(TuneTrial, OfTune(config, RuntimeError("No space left on device"))))
    assert died.why == "the disk is full: No space left on device"
    unwritten = callback()
    ended = json.dumps(replace(trial_from_config(config, 0), status="complete").to_document())
    unwritten.on_trial_result(1, [], of_tune, {TRIAL: ended})
    with pytest.raises(OSError, match="No space left"):
        unwritten.on_step_begin(2, [])
