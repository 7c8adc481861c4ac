"""The search policy on a synthetic table: better than chance, repeatable, picklable, and within its limits."""

import pickle
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from paretta.orchestrator.offline.random_search import RandomSearch
from paretta.orchestrator.offline.simulator import simulate
from paretta.orchestrator.policy.grey_box import GreyBox
from paretta.orchestrator.policy.problem import Known, Learned, Rungs, SearchProblem
from paretta.orchestrator.policy.settings import GreyBoxSettings
from paretta.search_spaces.space.holes import Choice, Float
from paretta.search_spaces.space.space import Knob
from tests.orchestrator.policy.toy import synthetic_table

TABLE = synthetic_table()


def test_it_beats_random_search_by_far() -> None:
    budgets = np.array([10.0])
    ours = [simulate(GreyBox(TABLE.problem(), seed=s), TABLE, 10).shares(TABLE, budgets)[0] for s in range(3)]
    chance = [simulate(RandomSearch(TABLE.problem(), seed=s), TABLE, 10).shares(TABLE, budgets)[0] for s in range(10)]
    assert min(ours) > np.mean(chance) + 0.03


def test_the_more_patience_the_fewer_trials_are_begun_for_the_same_compute() -> None:
    patience = (0.0, 1.4, 1e9)  # stops whatever the model judges, the default, stops nothing that it judges
    searches = (GreyBox(TABLE.problem(), seed=3, settings=GreyBoxSettings(patience=p)) for p in patience)
    hasty, usual, calm = (simulate(search, TABLE, 8).num_started for search in searches)
    assert hasty > usual > calm


@pytest.mark.parametrize("workers", [1, 4])
def test_equal_seed_and_completions_give_equal_plans(workers: int) -> None:
    first, second = (simulate(GreyBox(TABLE.problem(), seed=5), TABLE, 6, workers=workers) for _ in range(2))
    assert first.rows.tolist() == second.rows.tolist()
    assert first.num_started == second.num_started


def test_a_pickled_search_goes_on_the_same() -> None:
    search = GreyBox(TABLE.problem(), seed=1)
    simulate(search, TABLE, 4)
    copy = pickle.loads(pickle.dumps(search))
    assert [search.ask() for _ in range(3)] == [copy.ask() for _ in range(3)]


def test_nothing_is_asked_twice_and_it_ends() -> None:
    problem = SearchProblem(
        (Knob("bits", Choice((2, 4, 8))), Knob("width", Choice((1, 2)))), (), (Learned("loss", 1.0),)
    )
    search, seen = GreyBox(problem, seed=0), []
    while (candidate := search.ask()) is not None:
        seen.append(tuple(candidate.config.values()))
        search.tell(candidate.number, {"loss": 0.1 * len(seen)})
    assert len(seen) == len(set(seen)) == 6


def test_the_oldest_trial_goes_on_until_one_has_finished() -> None:
    rungs = Rungs((1.0, 3.0, 9.0), (1.25, 3.25, 9.25))
    search = GreyBox(SearchProblem((Knob("x", Float(0.0, 1.0)),), (), (Learned("loss", 1.0),), rungs), seed=0)
    candidates = [search.ask() for _ in range(8)]
    first, *others = [candidate.number for candidate in candidates if candidate is not None]
    assert not all(search.report(number, 1.0, {"loss": 0.5 + 0.06 * number}) for number in others)
    assert search.report(first, 1.0, {"loss": 0.99})
    assert search.report(first, 3.0, {"loss": 0.99})
    search.tell(first, {"loss": 0.99})


def test_one_worker_is_not_touched_by_what_many_workers_need() -> None:
    other = GreyBoxSettings(kept=0.9, calm=9.0, num_far=2, num_promising=3)
    usual, changed = (simulate(GreyBox(TABLE.problem(), seed=4, settings=s), TABLE, 8) for s in (None, other))
    assert usual.rows.tolist() == changed.rows.tolist()
    assert usual.spent.tolist() == changed.spent.tolist()


def test_many_workers_finish_some_of_their_first_wave_and_gain_by_the_others() -> None:
    budgets, seeds = np.array([16.0, 24.0]), range(2)
    ours = [simulate(GreyBox(TABLE.problem(), seed=seed), TABLE, 24, workers=16) for seed in seeds]
    chance = [simulate(RandomSearch(TABLE.problem(), seed=seed), TABLE, 24, workers=16) for seed in seeds]
    assert all((run.spent <= 16.0).sum() >= 3 for run in ours)
    assert all(run.num_started > other.num_started for run, other in zip(ours, chance, strict=True))
    shares, others = (np.mean([run.shares(TABLE, budgets) for run in runs], axis=0) for runs in (ours, chance))
    assert shares[0] > others[0] - 0.02
    assert shares[1] > others[1] + 0.03


def test_a_first_wave_is_of_distinct_trials_and_every_other_one_promises_more_than_chance() -> None:
    search = GreyBox(TABLE.problem(), seed=2)
    wave = [candidate.config for candidate in (search.ask() for _ in range(24)) if candidate is not None]
    rows = [TABLE.row(config) for config in wave]
    assert len(set(rows)) == 24
    room = (0.5 - TABLE.known).prod(axis=1)
    assert room[rows[5::2]].mean() > 1.2 * room.mean()


def test_nothing_of_a_first_wave_is_stopped_before_there_is_a_model() -> None:
    rungs = Rungs((1.0, 3.0), (1.25, 3.25))
    search = GreyBox(SearchProblem((Knob("x", Float(0.0, 1.0)),), (), (Learned("loss", 1.0),), rungs), seed=0)
    numbers = [candidate.number for candidate in (search.ask() for _ in range(12)) if candidate is not None]
    assert all(search.report(number, 1.0, {"loss": 0.5 + 0.1 * number}) for number in numbers[1:3])


def test_known_limits_are_never_broken_and_warm_starts_come_first() -> None:
    limited = (Known("size", 0.5, limit=-1.5), Known("latency", 0.5))
    good = {"width": 0.25, "bits": 8, "rate": 0.01, "teacher": False}
    broken = {"width": 1.0, "bits": 8, "rate": 0.01, "teacher": False}
    table = replace(TABLE, known_objectives=limited)
    search = GreyBox(replace(table.problem(), warm_start=(broken, good)), seed=0)
    first = search.ask()
    assert first is not None
    assert first.config == good
    search.tell(first.number, {"error": 0.2})
    result = simulate(search, table, 5)
    assert (table.known[result.rows, 0] <= -1.5).all()


def test_a_limit_on_a_learned_loss_is_sought_first() -> None:
    learned = (Learned("error", 0.3, limit=0.065, scale="log"),)
    problem = replace(TABLE, learned=learned).problem()
    result = simulate(GreyBox(problem, seed=2), TABLE, 8)
    assert (TABLE.validation[result.rows, -1, 0] <= 0.065).any()


def test_failures_are_kept_out_of_the_model_and_avoided() -> None:
    names = ("a", "b", "c", "d")
    knobs = (*(Knob(name, Float(0.0, 1.0)) for name in names), Knob("broken", Choice((False, True))))
    search = GreyBox(SearchProblem(knobs, (), (Learned("loss", 4.0),)), seed=0)
    failed = []
    for _ in range(30):
        candidate = search.ask()
        assert candidate is not None
        failed.append(candidate.config["broken"])
        distance = sum((cast(float, candidate.config[name]) - 0.37) ** 2 for name in names)
        search.tell(candidate.number, None if failed[-1] else {"loss": distance})
    assert sum(map(bool, failed[10:])) <= 6


def test_two_learned_objectives_without_known_ones() -> None:
    def losses(x: float) -> dict[str, float]:
        return {"a": x**2, "b": (x - 1) ** 2}

    problem = SearchProblem((Knob("x", Float(-2.0, 3.0)),), (), (Learned("a", 1.0), Learned("b", 1.0)))
    search = GreyBox(problem, seed=0, settings=GreyBoxSettings(num_random=100))
    inside = 0
    for step in range(20):
        candidate = search.ask()
        assert candidate is not None
        x = cast(float, candidate.config["x"])
        inside += step >= 8 and 0 <= x <= 1
        search.tell(candidate.number, losses(x))
    assert inside >= 9


def test_a_menu_is_kept_to() -> None:
    menu = tuple({"x": value} for value in (0.1, 0.35, 0.8))
    problem = SearchProblem((Knob("x", Float(0.0, 1.0)),), (), (Learned("loss", 2.0),), menu=menu)
    search = GreyBox(problem, seed=0)
    asked = []
    while (candidate := search.ask()) is not None:
        asked.append(candidate.config)
        search.tell(candidate.number, {"loss": 1.0})
    assert sorted(asked, key=lambda c: cast(float, c["x"])) == list(menu)


def test_points_of_earlier_sweeps_are_learned_and_not_trained_again() -> None:
    problem = SearchProblem(
        (Knob("bits", Choice((2, 4, 8))),), (), (Learned("loss", 1.0),), Rungs((1.0, 3.0), (1.0, 3.0))
    )
    search = GreyBox(problem, seed=0)
    search.learn({"bits": 4}, 3.0, {"loss": 0.2}, attained=True)
    search.learn({"bits": 8}, 1.0, {"loss": 0.4}, attained=False)
    asked = [candidate.config["bits"] for candidate in iter(search.ask, None) if candidate]
    assert sorted(cast(list[int], asked)) == [2, 8]


def test_a_loss_that_is_not_finite_is_refused() -> None:
    search = GreyBox(TABLE.problem(), seed=0)
    candidate = search.ask()
    assert candidate is not None
    with pytest.raises(ValueError, match="must be finite"):
        search.report(candidate.number, 1.0, {"error": float("nan")})
