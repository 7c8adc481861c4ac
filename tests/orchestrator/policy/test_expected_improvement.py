"""Expected hypervolume improvement against hypervolume differences and Monte Carlo."""

import numpy as np
import pytest

from paretta.orchestrator.policy.expected_improvement import (
    Attained,
    expected_gain,
    improvement_of_many,
    improvement_of_one,
)
from paretta.search_spaces.objectives.pareto import hypervolume

REFERENCE = np.array([0.9, 0.8, 1.0])


@pytest.mark.parametrize("num_known", [0, 1, 2])
@pytest.mark.parametrize("size", [0, 1, 12])
def test_a_sure_prediction_gains_the_hypervolume_it_adds(num_known: int, size: int) -> None:
    rng = np.random.default_rng(size)
    reference = REFERENCE[-num_known - 1 :]
    front, points = rng.random((size, num_known + 1)), rng.random((8, num_known + 1)) * 0.7
    attained = Attained.of(front[:, :-1], front[:, -1], known_reference=reference[:-1], reference=float(reference[-1]))
    gains = improvement_of_one(attained, points[:, :-1], points[:, -1], np.full(8, 1e-9), "linear")
    before = hypervolume(front, reference)
    assert gains == pytest.approx([hypervolume(np.vstack([front, p]), reference) - before for p in points], abs=1e-7)


def test_ties_in_known_losses() -> None:
    front = np.array([[0.1, 0.1, 0.5], [0.1, 0.1, 0.4], [0.1, 0.3, 0.4]])
    attained = Attained.of(front[:, :2], front[:, 2], known_reference=REFERENCE[:2], reference=1.0)
    gain = improvement_of_one(attained, np.array([[0.1, 0.1]]), np.array([0.3]), np.array([1e-9]), "linear")
    assert gain == pytest.approx([0.1 * 0.8 * 0.7], abs=1e-7)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_expected_gain_is_the_mean_over_draws(scale: str) -> None:
    mean, deviation, levels = np.array([-1.0, -0.3]), np.array([0.4, 0.1]), np.array([0.2, 0.7])
    draws = mean[:, None] + deviation[:, None] * np.random.default_rng(0).normal(size=(2, 400_000))
    losses = np.exp(draws) if scale == "log" else draws
    expected = [[np.maximum(level - losses[row], 0).mean() for level in levels] for row in range(2)]
    actual = expected_gain(mean, deviation, levels, "log" if scale == "log" else "linear")
    assert actual == pytest.approx(np.array(expected), abs=3e-3)


def test_the_quadrature_agrees_with_the_closed_form() -> None:
    rng = np.random.default_rng(3)
    front, known = rng.random((10, 3)), rng.random((6, 2)) * 0.6
    mean, deviation = np.log(rng.random(6) * 0.6), np.full(6, 0.3)
    attained = Attained.of(front[:, :2], front[:, 2], known_reference=REFERENCE[:2], reference=1.0)
    exact = improvement_of_one(attained, known, mean, deviation, "log")
    quadrature = improvement_of_many(front, REFERENCE, known, mean[:, None], deviation[:, None], scales=("log",))
    assert quadrature == pytest.approx(exact, abs=0.02 * float(exact.max()) + 1e-3)


def test_two_learned_objectives_against_monte_carlo() -> None:
    rng = np.random.default_rng(4)
    front, reference = np.array([[0.2, 0.6], [0.5, 0.3]]), np.array([1.0, 1.0])
    mean, deviation = np.array([[0.3, 0.3]]), np.array([[0.1, 0.2]])
    draws = mean + deviation * rng.normal(size=(4000, 2))
    before = hypervolume(front, reference)
    expected = np.mean([hypervolume(np.vstack([front, draw]), reference) - before for draw in draws])
    actual = improvement_of_many(front, reference, np.empty((1, 0)), mean, deviation, scales=("linear", "linear"))
    assert actual[0] == pytest.approx(expected, rel=0.05)
