"""A prior from other tasks: a good one helps at once, one of no weight changes nothing, a misleading one is dropped."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from paretta.orchestrator.offline.simulator import Simulation, Table, simulate
from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.encoding import Coordinates
from paretta.orchestrator.policy.grey_box import GreyBox
from paretta.orchestrator.policy.prior import Lessons, Prior, residual_units, weigh_prior
from tests.orchestrator.policy.toy import synthetic_table

TABLE = synthetic_table()
BASELINE = np.log(np.array([0.1]))
SEEDS = range(2)


def lessons(*, of: str = "a similar task", seed: int = 0) -> Lessons:
    """Return results on another network, twice as good and noisy; or with the knobs' effects reversed."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(TABLE.configs), 60, replace=False)
    gains = np.log(TABLE.validation[rows, -1] * 0.5) - np.log(0.06) + 0.05 * rng.normal(size=(60, 1))
    space = Coordinates(TABLE.knobs)
    inputs = space.inputs(np.array([space.encode(TABLE.configs[row]) for row in rows]))
    return Lessons(inputs, gains if of == "a similar task" else gains.max() + gains.min() - gains)


def searched(prior: Prior | None, seed: int, *, table: Table = TABLE, budget: float = 8) -> Simulation:
    return simulate(GreyBox(replace(table.problem(), prior=prior), seed=seed), table, budget)


def share(prior: Prior | None, budgets: tuple[float, ...]) -> Array:
    return np.mean([searched(prior, seed).shares(TABLE, np.array(budgets)) for seed in SEEDS], axis=0)


def test_a_prior_of_a_similar_task_is_ahead_from_the_first_trial() -> None:
    ours, plain = share(Prior.of(lessons(), BASELINE), (1.2, 3.0, 5.0)), share(None, (1.2, 3.0, 5.0))
    assert (ours > plain).all()
    assert ours[1] > plain[1] + 0.04


def test_a_prior_of_no_weight_changes_nothing() -> None:
    prior = replace(Prior.of(lessons(), BASELINE), trust=0.0)
    for seed in SEEDS:
        ours, plain = searched(prior, seed), searched(None, seed)
        assert ours.rows.tolist() == plain.rows.tolist()
        assert ours.spent.tolist() == plain.spent.tolist()
        assert ours.num_started == plain.num_started


def test_the_order_of_lessons_and_the_names_of_knobs_change_nothing() -> None:
    usual = Prior.of(lessons(), BASELINE)
    names = {knob.name: f"{number}" for number, knob in enumerate(TABLE.knobs)}
    knobs = tuple(
        replace(knob, name=names[knob.name], given=tuple((names[name], label) for name, label in knob.given))
        for knob in TABLE.knobs
    )
    configs = tuple({names[name]: value for name, value in config.items()} for config in TABLE.configs)
    renamed = replace(TABLE, knobs=knobs, configs=configs)
    assert searched(usual, 1).rows.tolist() == searched(usual, 1, table=renamed).rows.tolist()
    given = lessons()
    order = np.random.default_rng(1).permutation(len(given.inputs))
    at = given.inputs[:5]
    other = Prior.of(Lessons(given.inputs[order], given.gains[order]), BASELINE)
    np.testing.assert_allclose(other.expect(at), usual.expect(at), atol=1e-3)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_misleading_prior_is_dropped_and_costs_little(workers: int) -> None:
    prior = Prior.of(lessons(of="a reversed task"), BASELINE)
    search = GreyBox(replace(TABLE.problem(), prior=prior), seed=0)
    simulate(search, TABLE, 5, workers=workers)
    assert search.prior_weights.tolist() == [0.0]
    ours, plain = share(prior, (10.0,)), share(None, (10.0,))
    assert ours[0] > 0.9 * plain[0]


def test_a_search_with_a_prior_is_repeatable_and_goes_on_after_pickling() -> None:
    prior = Prior.of(lessons(), BASELINE)
    assert searched(prior, 5).rows.tolist() == searched(prior, 5).rows.tolist()
    search = GreyBox(replace(TABLE.problem(), prior=prior), seed=1)
    simulate(search, TABLE, 3)
    copy = pickle.loads(pickle.dumps(search))
    assert [search.ask() for _ in range(3)] == [copy.ask() for _ in range(3)]


def test_the_prior_is_the_baselines_loss_times_what_other_tasks_gained() -> None:
    prior = Prior.of(lessons(), BASELINE)
    given = lessons()
    errors = np.exp(prior.expect(given.inputs) - BASELINE - given.gains)
    assert errors == pytest.approx(1.0, abs=0.2)
    assert prior.centre == pytest.approx(BASELINE + given.gains.mean(axis=0))


def test_weights_follow_the_evidence_and_then_stay() -> None:
    prior, given = Prior.of(lessons(), BASELINE), lessons()
    x, u, expected = given.inputs[:8], np.zeros(8), prior.expect(given.inputs[:8])
    reversed_ = 2.0 * prior.centre - expected

    def weights(outputs: Array, before: float = 1.0) -> list[float]:
        found = weigh_prior(prior, x, u, outputs=outputs, expected=expected, before=np.array([before]))
        return [float(weight) for weight in found]

    assert weights(expected + 0.02) == [1.0]
    assert weights(reversed_) == [0.0]
    many = np.repeat(x, 9, axis=0), np.zeros(72), np.repeat(reversed_, 9, axis=0), np.repeat(expected, 9, axis=0)
    late = weigh_prior(prior, *many[:2], outputs=many[2], expected=many[3], before=np.array([0.7]))
    assert late.tolist() == [0.7]


def test_few_residuals_have_the_spread_of_other_tasks() -> None:
    assert residual_units(np.array([]), 0.4) == pytest.approx((0.0, 0.4))
    shift, scale = residual_units(np.full(96, 0.3), 0.4)
    assert shift == pytest.approx(0.3 * 96 / 97)
    assert scale == pytest.approx(0.4 * (4 / 100) ** 0.5)
