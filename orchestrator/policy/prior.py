"""A prior of the learned losses from results of other tasks, and how far this task's own results bear it out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.gaussian_process import (
    GaussianProcess,
    Hyperparameters,
    Units,
    fit_hyperparameters,
    log_evidence,
)

_MOST_ROWS = 400  # that the processes are conditioned on
_MOST_ROWS_FITTED = 160  # and that their hyper-parameters are fitted to
_SHARPNESS = 0.6  # spread around a prior that is right, over that of the other tasks' results: 0.5 to 0.7 on tables
_TRUSTED, _DROPPED = 0.5, 0.25  # a prior this probable has all its weight, and none below
_MOST_WEIGHED = 60  # trials; with more the weight stays as it is


@dataclass(frozen=True, slots=True)
class Lessons:
    """Results of other tasks in the terms of this search.

    Args:
        inputs: [n, d], the model inputs of their knobs in this search's space, see `Coordinates.inputs`.
        gains: [n, l], their learned losses on the model's scale, less those of their own baseline.
    """

    inputs: Array
    gains: Array


@dataclass(frozen=True, slots=True)
class Prior:
    """The learned losses that are expected of configurations before any trial of them.

    Known losses are no inputs: between networks an error goes along with the same knobs better than with the same size
    (`benchmarks/LOG.md`).

    Args:
        level: [l], the losses of this task's baseline on the model's scale.
        processes: of the other tasks' gains, one for each learned objective.
        trust: the largest weight, see `weigh_prior`; with 0 the prior changes nothing.
    """

    level: Array
    processes: tuple[GaussianProcess, ...]
    trust: float = 1.0

    @classmethod
    def of(cls, lessons: Lessons, level: Array, *, seed: int = 0) -> "Prior":
        """Fit the processes to at most 400 of the lessons, drawn at random. Raises `LinAlgError` if they cannot be."""
        rng = np.random.default_rng(seed)
        kept = _some(len(lessons.inputs), _MOST_ROWS, rng)
        x, gains = lessons.inputs[kept], lessons.gains[kept]
        few = _some(len(x), _MOST_ROWS_FITTED, rng)
        u = np.zeros(len(x))
        fitted = [fit_hyperparameters(x[few], u[few], gain[few]) for gain in gains.T]
        return cls(level, tuple(GaussianProcess.of(x, u, y, hyper) for y, hyper in zip(gains.T, fitted, strict=True)))

    @property
    def spread(self) -> Array:
        """The standard deviation, [l], of the other tasks' losses."""
        return np.array([process.scale for process in self.processes])

    @property
    def centre(self) -> Array:
        """The mean, [l], of the other tasks' losses, on this task's level."""
        return np.asarray(self.level + np.array([process.shift for process in self.processes]))

    def expect(self, inputs: Array) -> Array:
        """Return the expected losses on the model's scale, [n, l], at model inputs of knobs [n, d]."""
        return np.asarray(self.level + np.stack([process.mean(inputs) for process in self.processes], axis=1))


def weigh_prior(prior: Prior, x: Array, u: Array, *, outputs: Array, expected: Array, before: Array) -> Array:
    """Return the weight of a prior for each learned objective, [l], between 0 (dropped) and 1.

    The first reports are compared under two models, which are equally probable before them: a process around the prior,
    and a wider one around the mean of the other tasks' results. The weight is 1 if the first is the more probable one
    (Bayes' rule), 0 if it is less than a quarter probable, and between them in proportion.

    Args:
        prior: the prior.
        x: [n, d], the model inputs of the trials' last reports.
        u: [n], their distances to full fidelity.
        outputs: [n, l], their losses on the model's scale.
        expected: [n, l], the losses that the prior expects of them.
        before: [l], the weights so far, which stay from the 60th trial on.
    """
    if len(u) > _MOST_WEIGHED:
        return before
    typical = Hyperparameters.typical(x.shape[1])
    weights = []
    for y, hoped, spread, centre in zip(outputs.T, expected.T, prior.spread, prior.centre, strict=True):
        near = log_evidence(x, u, y - hoped, typical, units=(0.0, _SHARPNESS * spread))
        wide = log_evidence(x, u, y, typical, units=(centre, spread))
        weights.append((expit(near - wide) - _DROPPED) / (_TRUSTED - _DROPPED))
    return np.asarray(prior.trust * np.clip(weights, 0.0, 1.0))


def residual_units(residuals: Array, spread: float) -> Units:
    """Return shift and scale of a process of residuals [n]: those of a prior with one and four rows of its own.

    Few residuals say little about their spread, so it begins at that of the other tasks' results.
    """
    count = len(residuals)
    squares = float(residuals.var()) * count if count else 0.0
    return float(residuals.sum()) / (count + 1.0), float(((4.0 * spread**2 + squares) / (4.0 + count)) ** 0.5)


def _some(count: int, most: int, rng: np.random.Generator) -> Sequence[int]:
    kept: list[int] = sorted(rng.choice(count, min(count, most), replace=False).tolist())
    return kept
