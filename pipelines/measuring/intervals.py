"""Estimates and their 95 % intervals, as pure functions of numbers."""

import math
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054

# sessions of small models are up to 8 % slower than the fastest, those of large ones on a busy machine up to 20 %; on a
# core that another guest of its host uses too they are 40 to 100 %
FULL_SPEED: Final = 1.2
# half the 95 % interval of the error that all rounds of one visit share, relative to a ratio of times: ratios read
# minutes apart differed by 0.3 to 1.5 % in standard deviation beyond the spread of their rounds
VISIT_SPREAD: Final = 0.02
_VISITS_BEHIND: Final = 8
"""How many pairs of visits `VISIT_SPREAD` counts for beside those that a sweep sees itself."""


def bootstrap_interval(
    values: NDArray[np.float64],
    *,
    statistic: Literal["median", "mean"] = "median",
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % expanded percentile bootstrap interval of the median or mean of `values` [n], n at least 2.

    The quantiles are further out than 2.5 %, at ``Phi(-sqrt(n / (n - 1)) t(0.975, n - 1))``, since the plain ones are
    too narrow for few values (Hesterberg, 2015, What Teachers Should Know About the Bootstrap). Values of one cluster,
    such as the blocks of a session, must be combined first: the resampled values must be independent.

    >>> bootstrap_interval(np.full(5, 2.0))
    (2.0, 2.0)
    """
    count = len(values)
    generator = np.random.default_rng(seed)
    draws = np.sort(values)[generator.integers(0, count, (resamples, count))]
    estimates = np.median(draws, axis=1) if statistic == "median" else draws.mean(axis=1)
    tail = NormalDist().cdf(-((count / (count - 1)) ** 0.5) * student_quantile(count - 1))
    low, high = np.quantile(estimates, [tail, 1 - tail])
    return float(low), float(high)


def widened(low: float, high: float, *, at: float, spread: float) -> tuple[float, float]:
    """Widen the interval around the ratio `at` by an independent half width, `spread`, which is a share of `at`.

    Half widths add in quadrature on the logarithmic scale, separately for each end.

    >>> [round(end, 4) for end in widened(2.0 / 1.03, 2.0 * 1.03, at=2.0, spread=math.log(1.04))]
    [1.9041, 2.1007]
    """
    halves = [math.hypot(math.log(at / end), spread) for end in (low, high)]
    return at * math.exp(-halves[0]), at * math.exp(halves[1])


def visit_spread(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Estimate the spread of a visit from pairs of visits to the same models; at least `VISIT_SPREAD`.

    The difference of the logarithms of two visits has twice the variance of one. The mean over the pairs is combined
    with `VISIT_SPREAD`, which counts as 8 pairs, so that few pairs have little influence (the posterior mean under an
    inverse-gamma prior).

    Args:
        first: ratios, [pairs].
        second: those of the same models at another time, [pairs].

    >>> visit_spread(np.array([0.5]), np.array([0.5]))
    0.02
    >>> bool(visit_spread(np.full(8, 0.5), np.full(8, 0.6)) > 0.1)
    True
    """
    halves = Z95**2 * np.log(second / first) ** 2 / 2
    joined = (_VISITS_BEHIND * VISIT_SPREAD**2 + halves.sum()) / (_VISITS_BEHIND + len(halves))
    return max(math.sqrt(joined), VISIT_SPREAD)


def student_quantile(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t with `degrees` of freedom, without loading scipy.

    Exact for 1 and 2; above, an expansion around the normal quantile (Abramowitz and Stegun 26.7.5), within 0.2 %.

    >>> round(student_quantile(10), 3)
    2.228
    """
    if degrees == 1:
        return 12.706204736432095
    if degrees == 2:
        return 4.302652729911275
    z, n = Z95, degrees
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / n**power for power, term in enumerate(terms, start=1))


def median_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the interval of order statistics that contains the median with at least 95 %; None below 6 values.

    Of `n` independent values the k-th smallest and the k-th largest enclose the median with the probability
    ``1 - 2 P(Binomial(n, 1/2) < k)``, whatever their distribution (Thompson, 1936); the largest such k is taken.

    >>> median_interval(np.array([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]))
    (1.0, 6.0)
    """
    count, ordered = len(values), np.sort(values)
    below = np.cumsum([math.comb(count, k) for k in range(count)]) / 2**count  # P(Binomial <= k)
    rank = int(np.searchsorted(2 * below, 0.05, side="right"))
    return None if rank == 0 else (float(ordered[rank - 1]), float(ordered[-rank]))


def wilson_interval(num_successes: int, num_samples: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson, 1927): valid near 0 and 1, unlike the normal interval.

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

    Wilson's interval for scores of 0 and 1; otherwise the normal interval from 100 samples on, by the central limit
    theorem, and the bootstrap's for fewer.
    """
    if len(scores) < 2:
        return None
    if np.isin(scores, (0.0, 1.0)).all():
        return wilson_interval(int(scores.sum()), len(scores))
    if len(scores) < 100:
        return bootstrap_interval(scores, statistic="mean")
    half = Z95 * float(scores.std(ddof=1)) / len(scores) ** 0.5
    return float(scores.mean()) - half, float(scores.mean()) + half
