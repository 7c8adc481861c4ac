"""A searcher that catches up with a journal suggests what the interrupted one would have."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from ray.exceptions import ActorDiedError

from dashboards.journal import Journal, SweepRecord
from orchestrator.candidate import new_trial
from orchestrator.resume import caught_up, history
from orchestrator.search import Search
from orchestrator.searcher import RETURNED, STATUS, Config, TuneSearcher
from orchestrator.suggest import Strategy, Suggester
from orchestrator.trial import CandidateTrial, trial_of
from search_spaces.errors import WrongInput
from search_spaces.objectives import Objective, Reading
from search_spaces.registry import SAMPLERS
from search_spaces.space import Space
from search_spaces.trial import Trial

SPACE = Space.parse(
    [],
    [
        {"choice": [None, {"kind": "prune", "sparsity": {"float": [0.1, 0.9]}}]},
        {"kind": "quantize", "bits": {"int": [2, 8]}},
    ],
)
OBJECTIVES = (Objective("size", "min", "B"), Objective("accuracy", "max", "share"))
BASELINE = {"size": Reading(800.0, "B"), "accuracy": Reading(0.99, "share")}


def maker(sampler: str, num_trials: int = 30, seed: int = 5) -> Callable[[], TuneSearcher]:
    def make() -> TuneSearcher:
        search = Search(SPACE, OBJECTIVES, num_trials, seed, baseline=BASELINE)
        strategy = cast(Callable[[Search], Strategy], SAMPLERS.load(sampler))(search)
        return TuneSearcher(Suggester(search, strategy), max_running=3)

    return make


def ended(trial: Trial) -> Trial:
    """Every fifth trial fails, every seventh was stopped, the others are as good as their knobs."""
    if trial.number % 5 == 0:
        return replace(trial, status="failed", reason="on purpose")
    if trial.number % 7 == 0:
        return replace(trial, status="pruned", reason="on purpose")
    bits, sparsity = float(str(trial.knobs["quantize.bits"])), float(str(trial.knobs.get("prune.sparsity") or 0.0))
    size, accuracy = 100 * bits * (1 - sparsity), 1 - 0.5 / bits - sparsity**2 / 2
    readings = {"size": Reading(size, "B"), "accuracy": Reading(accuracy, "share")}
    return replace(trial, status="complete", readings=readings)


def drive(searcher: TuneSearcher, *, begin: int = 0, end: int = 99) -> list[Trial]:
    """Run three trials at a time from the ending number `begin` to `end`; return the journal's view of it.

    Which of the three ends next depends on that number alone, and is not always the oldest.
    """
    past: list[Trial] = []
    live: dict[int, str] = {}
    for count in range(begin, end):
        while isinstance(config := searcher.suggest(f"tune-{count}-{len(past)}"), dict):
            past.append(trial_of(cast(Config, config), seed=0))
            live[past[-1].number] = f"tune-{count}-{len(past) - 1}"
        if not live:
            break
        number = sorted(live)[count % len(live)]
        trial = ended(next(trial for trial in past if trial.number == number))
        past.append(trial)
        values = {meter: reading.value for meter, reading in trial.readings.items()}
        searcher.on_trial_complete(live.pop(number), {**values, STATUS: trial.status})
    return past


def plans(past: Sequence[Trial]) -> list[str]:
    return [trial.uid for trial in past if trial.status == "running"]


@pytest.mark.parametrize("sampler", sorted({*SAMPLERS.names()} - {"gp"}))  # decides too slowly
@pytest.mark.parametrize("num_ends", [0, 1, 17])
def test_every_sampler_goes_on_as_if_never_interrupted(sampler: str, num_ends: int) -> None:
    make = maker(sampler)
    whole = plans(drive(make()))
    past = drive(make(), end=num_ends)
    searcher, same = caught_up(make, past)
    assert same
    unfinished = [config["number"] for config in searcher.waiting]
    asked, told = {t.number - 1 for t in past}, {t.number - 1 for t in past if t.status != "running"}
    assert unfinished == sorted(asked - told)
    rest = plans(drive(searcher, begin=num_ends))
    assert sorted({*plans(past), *rest}) == sorted(whole)
    assert len(searcher.suggester.asked) == 30
    assert searcher.suggester.running == ()


def test_a_search_that_would_ask_otherwise_learns_from_the_same_trials() -> None:
    past = drive(maker("random", seed=1)(), end=9)
    searcher, same = caught_up(maker("tpe", seed=2), past)
    assert not same
    told = [entry.verdict for entry in searcher.suggester.asked]
    by_number = {trial.number: trial.status for trial in past}
    assert told == [by_number[n] if by_number[n] != "running" else None for n in sorted(by_number)]
    suggested = drive(searcher, begin=9)
    assert {trial.number for trial in suggested} | set(by_number) == set(range(1, 31))


def test_a_returned_trial_stays_open() -> None:
    searcher = maker("random")()
    config = cast(Config, searcher.suggest("a"))
    searcher.on_trial_complete("a", {STATUS: RETURNED})
    assert searcher.suggester.running == (config["number"],)
    searcher.close()
    assert searcher.suggest("b") == TuneSearcher.FINISHED


def test_nothing_of_the_search_is_pickled(tmp_path: Path) -> None:
    searcher = maker("tpe")()
    searcher.save(str(tmp_path / "state"))
    assert (tmp_path / "state").read_bytes() == b""
    assert b"suggester" not in pickle.dumps(searcher)


def test_the_journal_has_the_history_in_order_and_one_writer(tmp_path: Path) -> None:
    past = drive(maker("random")(), end=4)
    baseline = new_trial(0, past[0].plan, seed=0, knobs={}, role="baseline")
    with Journal(tmp_path) as journal:
        for trial in (baseline, *past):
            journal.trial(trial)
        journal.resumed({"versions": {"ray": "0"}})
        with pytest.raises(WrongInput, match="another process is running this sweep"):
            Journal(tmp_path)
    assert [(t.uid, t.status) for t in history(tmp_path)] == [(t.uid, t.status) for t in past]
    Journal(tmp_path).__exit__(None, None, None)
    assert SweepRecord.read(tmp_path).count("running") == len(plans(past)) - 4


def test_a_candidate_is_not_blamed_for_the_death_of_the_mailbox() -> None:
    def lost() -> Iterator[Trial]:
        raise ActorDiedError
        yield

    trial = CandidateTrial.__new__(CandidateTrial)
    trial.news = lost()
    assert trial.step() == {STATUS: RETURNED, "done": True}
