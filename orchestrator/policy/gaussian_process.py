"""A Gaussian process over configurations and fidelities, fitted by maximum a posteriori.

The value at full fidelity is a plane in the inputs plus a Matern-5/2 process with one lengthscale per input. A lower
fidelity adds a random walk away from that value, so that later rungs tell more about the final value, and a mean curve
shared by all configurations:

    k((x, u), (x', u')) = (signal + drift w) matern(x, x') + plane x.x' / d + mean (1 + w),   w = min(u, u')^2

where u is 0 at full fidelity and 1 at none, and the d inputs have about mean 0 and variance 1 over the space.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dtrtri
from scipy.optimize import minimize

from paretta.orchestrator.policy.array import Array

Units: TypeAlias = tuple[float, float]  # shift and scale of outputs

_ROOT5 = 5.0**0.5
_JITTER = 1e-8
_MEAN = 1.0  # prior variance of the mean curve, in units of the outputs' variance
_PLANE = 1.0  # prior variance of the plane at a typical input, likewise
_POWER = 2.0  # exponent of the random walk in the distance to full fidelity
_LENGTHSCALE = 1.5  # median of the prior for one input; it grows with the root of their number (Hvarfner et al. 2024)
_CENTRES = (-1.0, -0.5, float(np.log(0.03)))  # prior medians of log signal, drift and noise, for outputs of variance 1
_SPREADS = (1.0, 1.0, 1.5)  # and their standard deviations
_BOUNDS = [(-4.0, 3.0), (-6.0, 3.0), (-12.0, 0.5)]


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Hyper-parameters as natural logarithms: lengthscales [d], then the variances of signal, drift and noise."""

    values: Array

    @classmethod
    def typical(cls, num_inputs: int) -> "Hyperparameters":
        """Return the centre of the prior."""
        return cls(np.append(np.full(num_inputs, _centre(num_inputs)), _CENTRES))

    @property
    def lengthscale(self) -> Array:
        """Lengthscales [d], in units of the inputs."""
        return np.exp(self.values[:-3])

    @property
    def variances(self) -> tuple[float, float, float]:
        """Variances of signal, drift and noise, in units of the outputs' variance."""
        signal, drift, noise = np.exp(self.values[-3:]).tolist()
        return signal, drift, noise


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """The posterior given inputs and outputs.

    Args:
        x: [n, d]; u: [n], the distance to full fidelity.
        shift, scale: the outputs' mean and standard deviation, removed before fitting.
    """

    x: Array
    u: Array
    shift: float
    scale: float
    hyperparameters: Hyperparameters
    _inverse_factor: Array
    _weights: Array

    @classmethod
    def of(
        cls, x: Array, u: Array, y: Array, hyperparameters: Hyperparameters, *, units: Units | None = None
    ) -> "GaussianProcess":
        """Condition on outputs `y` [n], whose `units` are by default their mean and standard deviation.

        Raises:
            LinAlgError: the kernel matrix is not positive definite.
        """
        shift, scale = units or _units(y)
        matrix = _kernel(x, u, x, u, hyperparameters)
        matrix[np.diag_indices_from(matrix)] += hyperparameters.variances[2] + _JITTER
        factor = cholesky(matrix, lower=True, check_finite=False)
        weights = cho_solve((factor, True), (y - shift) / scale, check_finite=False)
        inverse_factor, _ = dtrtri(factor, lower=1)
        return cls(x, u, shift, scale, hyperparameters, inverse_factor, weights)

    @classmethod
    def unconditioned(cls, hyperparameters: Hyperparameters, units: Units) -> "GaussianProcess":
        """Return the process before any output is known."""
        nothing = np.zeros((1, 1))
        inputs = np.zeros((1, len(hyperparameters.lengthscale)))
        return cls(inputs, nothing[0], *units, hyperparameters, nothing, nothing[0])

    def mean(self, at: Array) -> Array:
        """Return the mean, [n], at inputs `at` [n, d] and full fidelity."""
        cross = _kernel(at, np.zeros(len(at)), self.x, self.u, self.hyperparameters)
        return np.asarray(self.shift + self.scale * (cross @ self._weights))

    def predict(self, at: Array, u: Array | None = None) -> tuple[Array, Array]:
        """Return mean and standard deviation, without the noise, at inputs `at` [n, d] and full fidelity or `u` [n]."""
        u = np.zeros(len(at)) if u is None else u
        cross = _kernel(at, u, self.x, self.u, self.hyperparameters)
        mean = cross @ self._weights
        solved = self._inverse_factor @ cross.T
        signal, drift, _ = self.hyperparameters.variances
        walk = u**_POWER
        prior = signal + drift * walk + _PLANE * (at**2).mean(axis=1) + _MEAN * (1.0 + walk)
        variance = np.maximum(prior - (solved**2).sum(axis=0), 1e-10)
        return self.shift + self.scale * mean, self.scale * np.sqrt(variance)


def fit_hyperparameters(
    x: Array, u: Array, y: Array, start: Hyperparameters | None = None, *, units: Units | None = None
) -> Hyperparameters:
    """Maximise the log marginal likelihood plus the log prior by L-BFGS-B from `start`, with analytic gradients."""
    shift, scale = units or _units(y)
    outputs = (y - shift) / scale
    squares = ((x.T[:, :, None] - x.T[:, None, :]) ** 2).reshape(x.shape[1], -1)
    walk = _walk(u, u)
    fixed = _plane(x, x) + _MEAN * (1.0 + walk)
    begin = (start or Hyperparameters.typical(x.shape[1])).values
    bounds = [(np.log(0.2), np.log(200.0))] * x.shape[1] + _BOUNDS
    result = minimize(
        _loss_and_gradient,
        begin,
        args=(squares, walk, fixed, outputs),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 60 if start is None else 10},
    )
    return Hyperparameters(result.x if np.isfinite(result.fun) else begin)


def log_evidence(x: Array, u: Array, y: Array, hyperparameters: Hyperparameters, *, units: Units) -> float:
    """Return the log marginal likelihood of outputs `y` [n]. Raises `LinAlgError` as `GaussianProcess.of`."""
    shift, scale = units
    matrix = _kernel(x, u, x, u, hyperparameters)
    matrix[np.diag_indices_from(matrix)] += hyperparameters.variances[2] + _JITTER
    factor = cholesky(matrix, lower=True, check_finite=False)
    whitened = solve_triangular(factor, (y - shift) / scale, lower=True, check_finite=False)
    logs = np.log(np.diag(factor)).sum() + len(y) * np.log(scale * (2.0 * np.pi) ** 0.5)
    return float(-0.5 * (whitened @ whitened) - logs)


def _units(y: Array) -> Units:
    return float(y.mean()), float(y.std()) or 1.0


def _centre(num_inputs: int) -> float:
    return float(np.log(_LENGTHSCALE * max(num_inputs, 1) ** 0.5))


def _walk(u: Array, v: Array) -> Array:
    return np.asarray(np.minimum(u[:, None], v[None, :]) ** _POWER)


def _plane(x: Array, z: Array) -> Array:
    return np.asarray(x @ z.T * (_PLANE / x.shape[1]))


def _kernel(x: Array, u: Array, z: Array, v: Array, hyperparameters: Hyperparameters) -> Array:
    a, b = x / hyperparameters.lengthscale, z / hyperparameters.lengthscale
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2.0 * a @ b.T
    root = _ROOT5 * np.sqrt(np.maximum(squared, 0.0))
    signal, drift, _ = hyperparameters.variances
    matern = (1.0 + root + root**2 / 3.0) * np.exp(-root)
    if not u.any() or not v.any():  # at full fidelity the random walk has length 0
        return np.asarray(signal * matern + _plane(x, z) + _MEAN)
    walk = _walk(u, v)
    return np.asarray((signal + drift * walk) * matern + _plane(x, z) + _MEAN * (1.0 + walk))


def _loss_and_gradient(values: Array, squares: Array, walk: Array, fixed: Array, outputs: Array) -> tuple[float, Array]:
    """Return the negative log posterior and its gradient in the logarithms of the hyper-parameters."""
    hyper = Hyperparameters(values)
    signal, drift, noise = hyper.variances
    size = len(outputs)
    inverse_squares = hyper.lengthscale**-2.0
    root = _ROOT5 * np.sqrt((inverse_squares @ squares).reshape(size, size))
    decay = np.exp(-root)
    matern = (1.0 + root + root**2 / 3.0) * decay
    amplitude = signal + drift * walk
    matrix = amplitude * matern + fixed
    matrix[np.diag_indices(size)] += noise + _JITTER
    try:
        factor = cholesky(matrix, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(values)
    inverse = cho_solve((factor, True), np.eye(size), check_finite=False)
    weights = inverse @ outputs
    offsets, spreads = _offsets(hyper)
    loss = 0.5 * float(outputs @ weights) + float(np.log(np.diag(factor)).sum()) + 0.5 * float(offsets @ offsets)
    outer = 0.5 * (inverse - np.outer(weights, weights))
    slopes = (outer * amplitude * decay * (1.0 + root)).ravel() * (5.0 / 3.0)
    shares = [signal * (outer * matern).sum(), drift * (outer * matern * walk).sum(), noise * np.trace(outer)]
    return loss, np.append((squares @ slopes) * inverse_squares, shares) + offsets / spreads


def _offsets(hyper: Hyperparameters) -> tuple[Array, Array]:
    """Return how many standard deviations each value is from its prior's centre, and those deviations."""
    num_inputs = len(hyper.values) - 3
    spreads = np.append(np.ones(num_inputs), _SPREADS)
    return (hyper.values - Hyperparameters.typical(num_inputs).values) / spreads, spreads
