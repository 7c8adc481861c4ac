"""The stopper inside Tune's event loop, without a cluster."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from paretta.orchestrator.policy.problem import Rungs
from paretta.orchestrator.samplers.random import make
from paretta.orchestrator.search.rungs import rungs_of
from paretta.orchestrator.search.spec import Search
from paretta.orchestrator.search.suggester import Suggester
from paretta.orchestrator.tune.messages import config_of
from paretta.orchestrator.tune.scheduler import RungScheduler, rung_of
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.space.space import Space

RUNGS = Rungs((1.0, 3.0, 9.0), (1.0, 3.0, 9.0))


class Below:
    """Stops what scores less than 0.5."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int, float]] = []

    def begin(self, number: int, knobs: object) -> None:
        pass

    def goes_on(self, number: int, rung: int, scores: Any) -> bool:
        self.heard.append((number, rung, scores["accuracy"]))
        return bool(scores["accuracy"] >= 0.5)

    def tell(self, number: int, losses: object, *, stopped: bool) -> None:
        pass


def result(epoch: int, accuracy: float) -> dict[str, object]:
    message = {"epoch": epoch, "num_epochs": 9, "scores": {"accuracy": accuracy}}
    return {"status": "running", "progress": json.dumps(message)}


def test_a_trial_is_asked_for_once_a_rung_and_its_job_is_cancelled() -> None:
    space = Space.parse([], [{"kind": "a", "x": {"float": [0, 1]}}])
    search = Search(space, (Objective("accuracy", "max", "share"),), 4, rungs=RUNGS)
    stopper, cancelled = Below(), list[object]()
    suggester = Suggester(search, make(search), stopper)
    scheduler = RungScheduler(suggester, cancelled.append)
    suggestion = suggester.ask()
    assert suggestion is not None
    trial: Any = SimpleNamespace(trial_id="a", config=config_of(suggestion.key, suggestion.plan, suggestion.knobs))
    controller: Any = None
    decisions = [
        scheduler.on_trial_result(controller, trial, result(epoch, accuracy))
        for epoch, accuracy in ((1, 0.6), (2, 0.1), (4, 0.4))
    ]
    assert decisions == [TrialScheduler.CONTINUE, TrialScheduler.CONTINUE, TrialScheduler.STOP]
    assert [(rung, accuracy) for _, rung, accuracy in stopper.heard] == [(0, 0.6), (1, 0.4)]
    assert cancelled == [trial.config]


def test_a_freed_actor_goes_to_a_trial_that_waits_for_none() -> None:
    space = Space.parse([], [{"kind": "a", "x": {"float": [0, 1]}}])
    search = Search(space, (Objective("accuracy", "max", "share"),), 4)
    suggester = Suggester(search, make(search), Below())
    scheduler = RungScheduler(suggester, lambda _: None)

    def suggested() -> Any:
        suggestion = suggester.ask()
        assert suggestion is not None
        config = config_of(suggestion.key, suggestion.plan, suggestion.knobs)
        return SimpleNamespace(trial_id=str(suggestion.key.number), config=config, status="PENDING")

    first, second = waiting = [suggested(), suggested()]
    controller: Any = SimpleNamespace(get_live_trials=lambda: list(waiting))
    assert [scheduler.choose_trial_to_run(controller) for _ in range(3)] == [first, second, first]
    first.status = "RUNNING"
    waiting.append(third := suggested())
    assert [scheduler.choose_trial_to_run(controller) for _ in range(2)] == [third, second]
    second.status = third.status = "RUNNING"
    assert scheduler.choose_trial_to_run(controller) is None


@pytest.mark.parametrize(
    ("message", "rung"),
    [
        ({}, None),
        ({"epoch": 4, "num_epochs": 9, "scores": {}}, None),
        ({"epoch": 9, "num_epochs": 9, "scores": {"accuracy": 1.0}}, None),  # its end is told by its artifact
        ({"epoch": 1, "num_epochs": 3, "scores": {"accuracy": 1.0}}, 1),  # a third of its way
        ({"epoch": 1, "num_epochs": 18, "scores": {"accuracy": 1.0}}, None),
    ],
)
def test_rungs_are_shares_of_the_way(message: dict[str, Any], rung: int | None) -> None:
    assert rung_of(RUNGS, message) == rung


@pytest.mark.parametrize(
    ("epochs", "fidelities"),
    [(1, (1,)), (2, (1, 2)), (5, (1, 5)), (9, (1, 3, 9)), (18, (2, 6, 18)), (27, (3, 9, 27)), (100, (11, 33, 100))],
)
def test_a_training_is_looked_at_after_a_ninth_and_a_third(epochs: int, fidelities: tuple[int, ...]) -> None:
    assert rungs_of(epochs).fidelities == fidelities
