"""Estimates and their 95 % intervals, as pure functions of numbers."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054


def block_ratios(candidate: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``candidate / reference`` [blocks], of times that were taken beside each other; their median is reported.

    >>> float(np.median(block_ratios(np.array([1.0, 2.0, 9.0]), np.array([2.0, 4.0, 3.0]))))
    0.5
    """
    ratios: NDArray[np.float64] = candidate / reference
    return ratios


def bootstrap_interval(
    values: NDArray[np.float64],
    *,
    statistic: Literal["median", "mean"] = "median",
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval (Efron, 1979) of the median or mean of `values` [n].

    >>> bootstrap_interval(np.full(5, 2.0))
    (2.0, 2.0)
    """
    generator = np.random.default_rng(seed)
    draws = values[generator.integers(0, len(values), (resamples, len(values)))]
    estimates = np.median(draws, axis=1) if statistic == "median" else draws.mean(axis=1)
    low, high = np.quantile(estimates, [0.025, 0.975])
    return float(low), float(high)


def wilson_interval(num_successes: int, num_samples: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson, 1927): sensible near 0 and 1, where the normal one is not.

    >>> [round(bound, 4) for bound in wilson_interval(9, 10)]
    [0.5958, 0.9821]
    """
    share, square = num_successes / num_samples, Z95**2
    centre = share + square / (2 * num_samples)
    half = Z95 * np.sqrt(share * (1 - share) / num_samples + square / (4 * num_samples**2))
    scale = 1 + square / num_samples
    return max(float((centre - half) / scale), 0.0), min(float((centre + half) / scale), 1.0)


def mean_interval(scores: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of per-sample scores [n], or None for fewer than two.

    Wilson's for scores of 0 and 1; the normal one from 100 samples on, by the central limit theorem; the bootstrap's
    for fewer.
    """
    if len(scores) < 2:
        return None
    if np.isin(scores, (0.0, 1.0)).all():
        return wilson_interval(int(scores.sum()), len(scores))
    if len(scores) < 100:
        return bootstrap_interval(scores, statistic="mean")
    half = Z95 * float(scores.std(ddof=1)) / len(scores) ** 0.5
    return float(scores.mean()) - half, float(scores.mean()) + half
