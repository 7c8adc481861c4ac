"""The intervals agree with scipy's and cover what they claim to cover."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pipelines.statistics import block_ratios, bootstrap_interval, mean_interval, wilson_interval

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=30)


@given(successes=st.integers(0, 400), failures=st.integers(0, 400))
def test_wilson_is_scipy_s(successes: int, failures: int) -> None:
    if successes + failures == 0:
        return
    theirs = binomtest(successes, successes + failures).proportion_ci(method="wilson")
    assert wilson_interval(successes, successes + failures) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(times=TIMES, factor=st.floats(0.01, 100))
def test_a_constant_factor_is_found_exactly(times: list[float], factor: float) -> None:
    ratios = block_ratios(np.multiply(times, factor), np.asarray(times))
    assert float(np.median(ratios)) == pytest.approx(factor)
    assert bootstrap_interval(ratios) == pytest.approx((factor, factor))


@given(values=TIMES)
def test_the_interval_lies_inside_the_data_and_around_the_estimate(values: list[float]) -> None:
    data = np.asarray(values)
    low, high = bootstrap_interval(data)
    assert data.min() <= low <= high <= data.max()
    assert bootstrap_interval(data) == (low, high), "the same numbers give the same interval"


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
