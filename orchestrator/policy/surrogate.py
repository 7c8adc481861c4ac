"""The model of the learned losses: one Gaussian process for each, refitted as trials report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.gaussian_process import GaussianProcess, Hyperparameters, Units, fit_hyperparameters
from paretta.orchestrator.policy.prior import Prior, residual_units, weigh_prior
from paretta.orchestrator.policy.problem import Learned

_SMALLEST = 1e-12  # lower bound of losses on a log scale
_WORTHLESS = 0.3  # width w of the compression of losses beyond the reference, on the model's scale


@dataclass(frozen=True, slots=True)
class SurrogateRows:
    """Observed losses.

    Args:
        x: [n, d], model inputs; u: [n], distance to full fidelity; losses: [n, l].
        expected: [n, l], the losses that a prior expects, on the model's scale; None without one.
    """

    x: Array
    u: Array
    losses: Array
    expected: Array | None = None

    def take(self, index: NDArray[np.intp]) -> "SurrogateRows":
        """Return some of the rows."""
        expected = None if self.expected is None else self.expected[index]
        return SurrogateRows(self.x[index], self.u[index], self.losses[index], expected)


@dataclass(frozen=True, slots=True)
class Posterior:
    """The posterior distribution of the losses at full fidelity; of their logarithms if on a log scale.

    Args:
        learned: the objectives, in the order of the processes.
        believed: [r, l], the losses predicted for the trials still running.
        weights: [l], the factors of what the prior expects, to which the processes add.
    """

    learned: tuple[Learned, ...]
    processes: tuple[GaussianProcess, ...]
    believed: Array
    weights: Array

    def predict(self, inputs: Array, expected: Array | None = None) -> tuple[Array, Array]:
        """Return mean and standard deviation, [n, l] each, at model inputs [n, d], of which a prior expects [n, l]."""
        both = [process.predict(inputs) for process in self.processes]
        mean, deviation = (np.stack(part, axis=1) for part in zip(*both, strict=True))
        return _added(mean, self.weights, expected), deviation

    def medians(self, inputs: Array, expected: Array | None = None) -> Array:
        """Return the median losses, [n, l]; arguments as in `predict`."""
        return from_scale(self.predict(inputs, expected)[0], self.learned)

    def within_limits(self, inputs: Array, expected: Array | None = None) -> Array:
        """Return the probability, [n], that every learned loss keeps its limit; arguments as in `predict`."""
        mean, deviation = self.predict(inputs, expected)
        limits = to_scale(np.array([[objective.limit for objective in self.learned]]), self.learned)
        return np.asarray(ndtr((limits - mean) / deviation).prod(axis=1))


class Surrogate:
    """Conditions the processes on observed rows, and refits hyper-parameters each time the rows have grown by a factor.

    Args:
        learned: the objectives.
        most_rows: the most rows that a posterior is conditioned on; of more, half are the best and half are random.
        most_rows_fitted: the most rows that hyper-parameters are fitted to.
        growth: the factor by which the rows grow between two fits.
        seed: of the random choice of rows.
        prior: what other tasks' results say; the processes model what is left of it.

    Attributes:
        weights: [l], how much of the prior is believed, see `weigh_prior`.
    """

    def __init__(
        self,
        learned: Sequence[Learned],
        *,
        most_rows: int,
        most_rows_fitted: int,
        growth: float,
        seed: int,
        prior: Prior | None = None,
    ) -> None:
        self._learned = tuple(learned)
        self._most_rows, self._most_rows_fitted, self._growth = most_rows, most_rows_fitted, growth
        self._rng = np.random.default_rng(seed)
        self._hyperparameters: list[Hyperparameters | None] = [None] * len(learned)
        self._num_fitted = 0
        self._prior = prior
        self.weights = np.full(len(learned), prior.trust if prior else 0.0)

    def weigh(self, rows: SurrogateRows) -> None:
        """Weigh the prior by reports; when a weight changes, hyper-parameters are fitted anew."""
        if self._prior is None or rows.expected is None or not len(rows.u):
            return
        weights = weigh_prior(
            self._prior, rows.x, rows.u, outputs=self._outputs(rows), expected=rows.expected, before=self.weights
        )
        if (weights != self.weights).any():
            self.weights, self._num_fitted = weights, 0
            self._hyperparameters = [None] * len(weights)

    def posterior(self, rows: SurrogateRows, running: Array, running_expected: Array | None = None) -> Posterior:
        """Condition on `rows`; `running` trials [r, d] count as if they had ended at their predicted means.

        The prior expects `running_expected` [r, l] of them.

        Raises:
            LinAlgError: a kernel matrix is not positive definite.
        """
        if len(rows.u) and len(rows.u) >= self._growth * self._num_fitted:
            self._fit(rows)
        rows = self._thinned(rows)
        outputs = self._residuals(rows)
        processes = self._processes(rows.x, rows.u, outputs)
        means = np.stack([process.predict(running)[0] for process in processes], axis=1) if len(running) else None
        if means is None:
            return Posterior(self._learned, processes, np.empty((0, len(self._learned))), self.weights)
        u = np.append(rows.u, np.zeros(len(running)))
        processes = self._processes(np.vstack([rows.x, running]), u, np.vstack([outputs, means]))
        believed = from_scale(_added(means, self.weights, running_expected), self._learned)
        return Posterior(self._learned, processes, believed, self.weights)

    def _residuals(self, rows: SurrogateRows) -> Array:
        """Return what the processes model, [n, l]: the outputs less what the prior expects."""
        return _added(self._outputs(rows), -self.weights, rows.expected)

    def _units(self, outputs: Array) -> list[Units | None]:
        """Return the units of each process; None for the usual ones, which hold where the prior has no weight."""
        if self._prior is None:
            return [None] * outputs.shape[1]
        each = zip(outputs.T, self._prior.spread, self.weights, strict=True)
        return [residual_units(y, spread) if weight else None for y, spread, weight in each]

    def _outputs(self, rows: SurrogateRows) -> Array:
        """Return the processes' outputs, [n, l]: losses on the model's scale, compressed beyond the reference.

        Beyond the reference point all losses are equally worthless, and one diverged training must not distort the fit
        elsewhere, so the excess e over the reference becomes ``w log(1 + e / w)``.
        """
        scaled = to_scale(rows.losses, self._learned)
        reference = to_scale(np.array([[objective.reference for objective in self._learned]]), self._learned)
        excess = np.maximum(scaled - reference, 0.0)
        return np.minimum(scaled, reference) + _WORTHLESS * np.log1p(excess / _WORTHLESS)

    def _processes(self, x: Array, u: Array, outputs: Array) -> tuple[GaussianProcess, ...]:
        fitted = [hyper or Hyperparameters.typical(x.shape[1]) for hyper in self._hyperparameters]
        each = zip(outputs.T, fitted, self._units(outputs), strict=True)
        return tuple(
            GaussianProcess.of(x, u, y, hyper, units=units)
            if len(y) or units is None
            else GaussianProcess.unconditioned(hyper, units)
            for y, hyper, units in each
        )

    def _fit(self, rows: SurrogateRows) -> None:
        self._num_fitted = len(rows.u)
        if len(rows.u) > self._most_rows_fitted:
            rows = rows.take(np.sort(self._rng.choice(len(rows.u), self._most_rows_fitted, replace=False)))
        outputs = self._residuals(rows)
        each = zip(outputs.T, self._hyperparameters, self._units(outputs), strict=True)
        self._hyperparameters = [fit_hyperparameters(rows.x, rows.u, y, start, units=units) for y, start, units in each]

    def _thinned(self, rows: SurrogateRows) -> SurrogateRows:
        excess = len(rows.u) - self._most_rows
        if excess <= 0:
            return rows
        order = np.lexsort((rows.losses.sum(axis=1), rows.u))
        half = self._most_rows // 2
        rest = self._rng.choice(order[half:], self._most_rows - half, replace=False)
        return rows.take(np.sort(np.append(order[:half], rest)))


def _added(values: Array, weights: Array, expected: Array | None) -> Array:
    return values + weights * expected if expected is not None and weights.any() else values


def to_scale(losses: Array, learned: Sequence[Learned]) -> Array:
    """Convert losses [n, l] to the scales of the model."""
    scaled = np.array(losses, dtype=np.float64)
    for column, objective in enumerate(learned):
        if objective.scale == "log":
            scaled[:, column] = np.log(np.maximum(scaled[:, column], _SMALLEST))
    return scaled


def from_scale(scaled: Array, learned: Sequence[Learned]) -> Array:
    """Invert `to_scale`; for a mean of logarithms this gives the median loss."""
    losses = np.array(scaled, dtype=np.float64)
    for column, objective in enumerate(learned):
        if objective.scale == "log":
            losses[:, column] = np.exp(losses[:, column])
    return losses
