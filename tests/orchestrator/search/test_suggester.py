"""The bookkeeping of suggestions, and its Tune adapter without a cluster."""

import pytest
from optuna.trial import TrialState

from paretta.orchestrator.samplers.random import make
from paretta.orchestrator.search.optuna_strategy import OptunaStrategy
from paretta.orchestrator.search.spec import Search
from paretta.orchestrator.search.suggester import Suggester
from paretta.orchestrator.tune.search_alg import TuneSearcher
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.objectives.limits import Limit, parse_limits
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.trial_key import TrialKey
from paretta.search_spaces.space.space import Space

OBJECTIVES = (Objective("size", "min", "B"), Objective("accuracy", "max", "share"))
GOOD = {"status": "complete", "size": 10.0, "accuracy": 0.75}


def suggester(*steps: Json, num_trials: int = 100, seed: int = 0) -> Suggester:
    search = Search(Space.parse([], steps), OBJECTIVES, num_trials, seed)
    return Suggester(search, make(search))


def states(search: Suggester) -> list[TrialState]:
    assert isinstance(search.strategy, OptunaStrategy)
    return [trial.state for trial in search.strategy.study.trials]


def bits(low: int, high: int) -> Json:
    return {"kind": "quantize", "bits": {"int": [low, high]}}


def test_a_small_space_is_run_out_of_and_every_plan_once() -> None:
    search = suggester(bits(2, 8))
    found = []
    while (suggestion := search.ask()) is not None:
        found.append(suggestion.plan.stages[0]["bits"])
        search.tell(suggestion.key, [1.0, 2.0])
    assert sorted(found) == [2, 3, 4, 5, 6, 7, 8]
    assert search.exhausted
    assert search.finished
    assert search.ask() is None


def test_a_repeated_plan_is_told_with_the_values_it_had() -> None:
    search = suggester(bits(2, 4))
    for loss in (1.0, 2.0, 3.0):
        suggestion = search.ask()
        assert suggestion is not None
        search.tell(suggestion.key, [loss, 2 * loss])
    assert search.ask() is None
    assert search.num_repeats > 0
    assert isinstance(search.strategy, OptunaStrategy)
    told = {(trial.params[next(iter(trial.params))], *trial.values) for trial in search.strategy.study.trials}
    assert len(told) == 3  # each plan has one pair of losses, however often it was proposed


def test_a_point_beyond_a_limit_adds_nothing_to_the_volume() -> None:
    baseline = {"size": Reading(800.0, "B"), "accuracy": Reading(0.9, "share")}
    limits = parse_limits([{"meter": "accuracy", "at_least": "87%"}])

    def volumes(limits: tuple[Limit, ...]) -> list[float]:
        search = Search(Space.parse([], [bits(2, 8)]), OBJECTIVES, 3, baseline=baseline, limits=limits)
        told = Suggester(search, make(search))
        for losses in ([400.0, -0.88], [50.0, -0.85], [200.0, -0.88]):  # the second misses the limit
            suggestion = told.ask()
            assert suggestion is not None
            assert told.tell(suggestion.key, losses) == "complete"
        return told.volumes

    free, limited = volumes(()), volumes(limits)
    assert limited[0] == limited[1] < limited[2]
    assert free[0] < free[1]
    assert limited[0] > 0


class StopAll:
    """Stops every trial at its first rung."""

    def begin(self, number: int, knobs: object) -> None:
        """Do nothing."""

    def goes_on(self, number: int, rung: int, scores: object) -> bool:
        """Return False."""
        return False

    def tell(self, number: int, losses: object, *, stopped: bool) -> None:
        """Do nothing."""


@pytest.mark.parametrize(("num_trials", "finished"), [(4, 4), (6, 4), (9, 4)])
def test_a_sweep_of_hardly_more_trials_than_workers_ends_with_finished_trials(num_trials: int, finished: int) -> None:
    search = suggester(bits(2, 40), num_trials=num_trials)
    search.stopper = StopAll()
    running = [asked for asked in (search.ask() for _ in range(4)) if asked is not None]
    verdicts = []
    while running:
        trial = running.pop(0)
        if search.report(trial.key, 0, {"accuracy": 0.5}):
            verdicts.append(search.tell(trial.key, [1.0, 2.0]))
        else:
            verdicts.append(search.tell(trial.key, stopped=True))
        running += [asked for asked in [search.ask()] if asked is not None]
    assert verdicts.count("complete") == finished
    assert verdicts.count("stopped early") == num_trials - finished


def test_a_search_ends_for_its_first_reason() -> None:
    search = suggester(bits(2, 8))
    search.end("the budget of 1 hours is spent")
    search.end("another")
    assert (search.over, search.finished, search.ask()) == ("the budget of 1 hours is spent", True, None)


def test_nothing_stays_running() -> None:
    search = suggester(bits(2, 8), num_trials=4)
    asked = [suggestion for _ in range(4) if (suggestion := search.ask()) is not None]
    keys = [suggestion.key for suggestion in asked]
    assert search.running == tuple(keys)
    assert keys == [TrialKey.of(number, suggestion.plan) for number, suggestion in enumerate(asked, start=1)]
    assert search.tell(keys[0], [1.0, 2.0]) == "complete"
    assert search.tell(keys[1], [1.0, float("inf")]) == "failed"
    assert search.tell(keys[2], [1.0]) == "failed"
    assert search.tell(keys[3], [1.0, 2.0], stopped=True) == "stopped early"
    assert search.running == ()
    assert states(search).count(TrialState.RUNNING) == 0
    assert search.tell(keys[1], [1.0, 2.0]) == "failed"  # only the first word counts


def test_one_name_with_two_ranges_is_no_conflict() -> None:
    low = {"kind": "prune", "sparsity": {"float": [0.0, 0.4]}}
    high = {"kind": "prune", "sparsity": {"choice": [0.8, 0.9]}}
    search = suggester({"choice": [low, high]}, num_trials=30)
    values = []
    while (suggestion := search.ask()) is not None:
        values.append(suggestion.plan.stages[0]["sparsity"])
        search.tell(suggestion.key, [1.0, 1.0])
    assert {0.8, 0.9} < set(values)
    assert len(values) == 30


def test_steps_and_logs_are_kept() -> None:
    step = {"kind": "distill", "steps": {"int": [10, 35], "step": 10}, "rate": {"float": [1e-4, 1.0], "log": True}}
    search = suggester(step, num_trials=60)
    stages = []
    while (suggestion := search.ask()) is not None:
        stages.append(suggestion.plan.stages[0])
    assert {stage["steps"] for stage in stages} == {10, 20, 30}
    assert sum(float(str(stage["rate"])) < 1e-2 for stage in stages) > 15  # half of a log range of four decades


def test_an_earlier_run_is_adopted() -> None:
    first = suggester(bits(2, 8), num_trials=7)
    again = suggester(bits(2, 8), num_trials=7, seed=1)
    for _ in range(3):
        suggestion = first.ask()
        assert suggestion is not None
        assert again.adopt({name: int(str(value)) for name, value in suggestion.knobs.items()}, [1.0, 2.0])
        assert suggestion.plan.fingerprint in again.known
    new = [again.ask() for _ in range(4)]
    assert all(suggestion is not None for suggestion in new)
    assert again.ask() is None
    assert states(again).count(TrialState.COMPLETE) >= 3


@pytest.mark.parametrize(
    ("result", "error", "state"),
    [
        (GOOD, False, TrialState.COMPLETE),
        (GOOD, True, TrialState.FAIL),
        (None, True, TrialState.FAIL),
        (None, False, TrialState.FAIL),
        ({**GOOD, "accuracy": float("nan")}, False, TrialState.FAIL),
        ({"status": "complete", "size": 10.0}, False, TrialState.FAIL),
        ({**GOOD, "status": "failed"}, False, TrialState.FAIL),
        ({**GOOD, "status": "running"}, False, TrialState.PRUNED),
        ({**GOOD, "status": "stopped early"}, False, TrialState.PRUNED),
        ({"epoch": 1}, False, TrialState.PRUNED),
    ],
)
def test_the_searcher_tells_every_end(result: dict[str, object] | None, error: bool, state: TrialState) -> None:
    searcher = TuneSearcher(suggester(bits(2, 8)), max_running=2)
    assert isinstance(searcher.suggest("a"), dict)
    searcher.on_trial_complete(trial_id="a", result=result, error=error)
    assert states(searcher.suggester) == [state]


def test_the_searcher_turns_goals_into_losses() -> None:
    searcher = TuneSearcher(suggester(bits(2, 8)), max_running=2)
    searcher.suggest("a")
    searcher.on_trial_complete("a", GOOD)
    assert searcher.suggester.asked[0].losses == (10.0, -0.75)


def test_the_searcher_keeps_to_its_number_of_running_trials() -> None:
    searcher = TuneSearcher(suggester(bits(2, 8), num_trials=3), max_running=2)
    assert isinstance(searcher.suggest("a"), dict)
    assert isinstance(searcher.suggest("b"), dict)
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", GOOD)
    assert isinstance(searcher.suggest("c"), dict)
    assert searcher.suggest("d") == "FINISHED"
