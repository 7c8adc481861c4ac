"""The intervals agree with scipy's and cover what they claim to cover."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t

from paretta.pipelines.measuring.intervals import (
    bootstrap_interval,
    mean_interval,
    median_interval,
    student_quantile,
    widened,
    wilson_interval,
)

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=30)


@given(successes=st.integers(0, 400), failures=st.integers(0, 400))
def test_wilson_is_scipy_s(successes: int, failures: int) -> None:
    if successes + failures == 0:
        return
    theirs = binomtest(successes, successes + failures).proportion_ci(method="wilson")
    assert wilson_interval(successes, successes + failures) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(times=TIMES, factor=st.floats(0.01, 100))
def test_a_constant_factor_is_found_exactly(times: list[float], factor: float) -> None:
    ratios = factor * np.asarray(times) / np.asarray(times)
    assert float(np.median(ratios)) == pytest.approx(factor)
    assert bootstrap_interval(ratios) == pytest.approx((factor, factor))


@given(values=TIMES)
def test_the_interval_lies_inside_the_data_and_around_the_estimate(values: list[float]) -> None:
    data = np.asarray(values)
    low, high = bootstrap_interval(data)
    assert data.min() <= low <= high <= data.max()
    assert bootstrap_interval(data) == (low, high), "the same numbers give the same interval"


@given(values=TIMES, factor=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_intervals_scale_with_the_data_and_do_not_know_its_order(values: list[float], factor: float, seed: int) -> None:
    data = np.asarray(values)
    shuffled = np.random.default_rng(seed).permutation(data)
    for interval in (bootstrap_interval, median_interval):
        assert interval(shuffled) == interval(data)
        scaled, plain = interval(data * factor), interval(data)
        assert (scaled is None) == (plain is None)
        if scaled is not None and plain is not None:
            assert scaled == pytest.approx(tuple(bound * factor for bound in plain))


@given(values=TIMES)
def test_intervals_hold_the_median(values: list[float]) -> None:
    data = np.asarray(values)
    for low, high in filter(None, (bootstrap_interval(data), median_interval(data))):
        assert low <= np.median(data) <= high


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 20, 100])
def test_student_s_quantile_is_scipy_s(degrees: int) -> None:
    assert student_quantile(degrees) == pytest.approx(t.ppf(0.975, degrees), rel=2e-3)


@pytest.mark.parametrize("count", [6, 9, 20])
def test_order_statistics_are_those_of_the_sign_test(count: int) -> None:
    data = np.arange(1.0, count + 1)
    low, high = median_interval(data) or (0.0, 0.0)
    # the interval holds every median that a two-sided sign test at 5 % does not reject, and no wider one is needed
    assert binomtest(int(low) - 1, count).pvalue < 0.05
    assert binomtest(int(low), count).pvalue >= 0.05
    assert low + high == count + 1


def test_five_values_are_too_few_for_order_statistics() -> None:
    assert median_interval(np.arange(5.0)) is None


def clustered(generator: np.random.Generator, sessions: int, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Times with a ratio of 1, random effects of 3 % per session and 1 % per block."""
    luck = generator.normal(0.0, 0.03, (sessions, 1)) + generator.normal(0.0, 0.01, (sessions, blocks))
    return np.exp(luck), np.ones((sessions, blocks))


@pytest.mark.parametrize(("sessions", "blocks"), [(8, 2), (20, 5)])
def test_sessions_are_covered_as_often_as_claimed_and_blocks_alone_are_not(sessions: int, blocks: int) -> None:
    generator = np.random.default_rng(0)
    joined = alone = 0
    for _ in range(300):
        candidate, reference = clustered(generator, sessions, blocks)
        low, high = bootstrap_interval(np.exp(np.log(candidate / reference).mean(axis=1)), resamples=400)
        joined += low <= 1.0 <= high
        low, high = bootstrap_interval((candidate / reference).ravel(), resamples=400)
        alone += low <= 1.0 <= high
    assert 0.91 <= joined / 300 <= 0.99
    assert alone < joined - 15, "blocks of one session are no independent observations"


@given(ratio=st.floats(0.01, 100), spread=st.floats(0.0, 0.5))
def test_an_interval_without_width_becomes_the_spread(ratio: float, spread: float) -> None:
    low, high = widened(ratio, ratio, at=ratio, spread=spread)
    assert (low, high) == pytest.approx((ratio * np.exp(-spread), ratio * np.exp(spread)))
    assert widened(ratio / 1.2, ratio * 1.1, at=ratio, spread=0.0) == pytest.approx((ratio / 1.2, ratio * 1.1))


@pytest.mark.parametrize("num_samples", [40, 400])
def test_the_mean_is_covered_as_often_as_claimed(num_samples: int) -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        low, high = mean_interval(generator.gamma(4.0, size=num_samples)) or (0, 0)
        covered += low <= 4.0 <= high
    assert 0.89 <= covered / 300 <= 0.99


def test_scores_of_nought_and_one_get_wilson_s() -> None:
    assert mean_interval(np.array([1.0] * 9 + [0.0])) == wilson_interval(9, 10)


def test_one_sample_has_no_interval() -> None:
    assert mean_interval(np.array([1.0])) is None
