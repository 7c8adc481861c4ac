"""The Gaussian process against its textbook formulas and finite differences."""

import numpy as np
import pytest
from scipy.optimize import check_grad

from paretta.orchestrator.policy import gaussian_process as module
from paretta.orchestrator.policy.gaussian_process import GaussianProcess, Hyperparameters, fit_hyperparameters


def _data(size: int = 25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, u = rng.random((size, 3)), rng.choice([0.0, 0.4, 1.0], size)
    return x, u, np.sin(4 * x[:, 0]) + u * x[:, 1] + 0.05 * rng.normal(size=size)


def test_the_gradient_is_that_of_the_loss() -> None:
    x, u, y = _data()
    squares = ((x.T[:, :, None] - x.T[:, None, :]) ** 2).reshape(3, -1)
    walk = np.minimum(u[:, None], u[None, :]) ** 2
    arguments = squares, walk, 1.0 + walk, (y - y.mean()) / y.std()
    at = Hyperparameters.typical(3).values + 0.2
    loss = module._loss_and_gradient
    error = check_grad(lambda v: loss(v, *arguments)[0], lambda v: loss(v, *arguments)[1], at)
    assert error < 1e-4 * float(np.linalg.norm(loss(at, *arguments)[1]))


def test_without_noise_it_passes_through_the_data_and_knows_nothing_far_away() -> None:
    x, _, y = _data()
    quiet = Hyperparameters(np.append(np.log([0.3, 0.3, 0.3]), [0.0, -1.0, -12.0]))
    process = GaussianProcess.of(x, np.zeros(len(y)), y, quiet)
    mean, deviation = process.predict(x)
    assert mean == pytest.approx(y, abs=1e-2)
    assert (deviation < 0.05).all()
    assert process.predict(np.full((1, 3), 50.0))[1][0] > 0.9 * y.std()


def test_a_nearer_rung_says_more_about_the_end() -> None:
    x, y = np.array([[0.5, 0.5], [0.1, 0.9]]), np.array([0.0, 1.0])
    typical = Hyperparameters.typical(2)
    deviations = [
        GaussianProcess.of(x, np.array([u, 0.0]), y, typical).predict(x[:1])[1][0] for u in (0.0, 0.3, 0.6, 1.0)
    ]
    assert deviations == sorted(deviations)


def test_fitting_finds_the_input_that_matters_and_predicts() -> None:
    rng = np.random.default_rng(1)
    x = rng.random((60, 2))
    y = np.sin(6 * x[:, 0])
    fitted = fit_hyperparameters(x, np.zeros(60), y)
    assert fitted.lengthscale[0] < fitted.lengthscale[1]
    new = rng.random((20, 2))
    mean, _ = GaussianProcess.of(x, np.zeros(60), y, fitted).predict(new)
    assert mean == pytest.approx(np.sin(6 * new[:, 0]), abs=0.15)
