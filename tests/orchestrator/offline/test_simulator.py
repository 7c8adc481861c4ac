"""The simulator: costs, shared stages and scores."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from paretta.orchestrator.offline.random_search import RandomSearch
from paretta.orchestrator.offline.simulator import simulate
from paretta.orchestrator.policy.problem import Candidate, Rungs
from paretta.orchestrator.policy.successive_halving import SuccessiveHalving, ranking
from paretta.search_spaces.objectives.pareto import hypervolume
from tests.orchestrator.policy.toy import synthetic_table

TABLE = synthetic_table()


class InOrder:
    """Asks for given rows, stops at the first rung those in `stopped`."""

    def __init__(self, rows: list[int], stopped: tuple[int, ...] = (), *, share: bool = True) -> None:
        self.rows, self.stopped, self.share, self.next = rows, stopped, share, -1
        self.told: list[int] = []

    def ask(self) -> Candidate | None:
        self.next += 1
        if self.next >= len(self.rows):
            return None
        config = TABLE.configs[self.rows[self.next]]
        return Candidate(self.next, config, TABLE.prefix(config) if self.share else None, math.nan)

    def report(self, number: int, fidelity: float, losses: Mapping[str, float]) -> bool:
        return self.rows[number] not in self.stopped

    def tell(self, number: int, losses: Mapping[str, float] | None) -> None:
        self.told.append(self.rows[number])


def test_a_prefix_is_paid_once_and_a_stop_saves_the_rest() -> None:
    unit = 9.25 + 2.0
    result = simulate(InOrder([0, 1, 2], stopped=(1,)), TABLE, 10)
    assert result.rows.tolist() == [0, 2]
    assert result.spent * unit == pytest.approx([11.25, 11.25 + 1.25 + 9.25])
    alone = simulate(InOrder([0, 1], share=False), TABLE, 10)
    assert alone.spent == pytest.approx([1.0, 2.0])


def test_workers_share_the_time_but_not_a_prefix_under_way() -> None:
    result = simulate(InOrder([0, 1]), TABLE, 10, workers=2)
    assert result.spent == pytest.approx([2.0, 2.0])


def test_a_row_asked_for_again_costs_nothing() -> None:
    search = InOrder([0, 0, 5])
    result = simulate(search, TABLE, 10)
    assert result.rows.tolist() == [0, 5]
    assert search.told == [0, 0, 5]


def test_the_front_is_chosen_on_validation_and_scored_on_test() -> None:
    rows = [3, 40, 77, 100]
    points = np.hstack([TABLE.known[rows], TABLE.test[rows]])
    assert TABLE.score(rows) == pytest.approx(hypervolume(points, TABLE.test_reference))
    everything = simulate(RandomSearch(TABLE.problem(), seed=0), TABLE, len(TABLE.configs) + 1)
    assert everything.shares(TABLE, np.array([0.5, 1e9])) == pytest.approx([0.0, 1.0])


def test_successive_halving_keeps_the_best_third() -> None:
    halving = SuccessiveHalving(np.array([10.0]))
    decisions = [halving.report(0, np.array([value])) for value in (5.0, 6.0, 4.0, 7.0, 3.0, 8.0)]
    assert decisions == [True, False, True, False, True, False]


def test_the_more_a_trial_has_paid_the_more_trials_go_on() -> None:
    """With a prefix of 5 epochs a trial has paid 6 at its first look after 1 epoch and 8 at the next: 6 of 8 go on."""
    rungs = Rungs((1.0, 3.0, 9.0), (1.0, 3.0, 9.0))
    halving, losses = SuccessiveHalving(np.array([10.0])), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    decisions = [halving.report(0, np.array([loss]), keep=rungs.share_spent(0, 5.0)) for loss in losses]
    assert decisions == [True, True, False, False, False, False, False, False]  # `round` of 0.75, 1.5, 2.25, 3, ...
    assert [rungs.share_spent(rung) for rung in (0, 1)] == pytest.approx([1 / 3, 1 / 3])


@pytest.mark.parametrize("within", ["contribution", "spread"])
def test_ranking_puts_layer_after_layer(within: str) -> None:
    losses = np.array([[2.0, 2.0], [0.0, 1.0], [1.0, 0.0], [3.0, 3.0], [0.4, 0.4]])
    order = ranking(losses, np.array([4.0, 4.0]), "spread" if within == "spread" else "contribution").tolist()
    assert set(order[:3]) == {1, 2, 4}
    assert order[3:] == [0, 3]
    if within == "contribution":
        assert order[2] == 4  # it adds 0.6 * 0.6, the others 0.4 * 3
