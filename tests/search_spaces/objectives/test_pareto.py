"""Pareto mathematics against independent implementations, ties included."""

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from paretta.search_spaces.objectives.pareto import hypervolume, hypervolume_contributions, non_dominated

# few distinct values, so that ties and equal rows are common
LOSSES = st.integers(1, 4).flatmap(
    lambda m: arrays(np.float64, st.tuples(st.integers(1, 25), st.just(m)), elements=st.integers(0, 6).map(float))
)


def _dominated_by_definition(losses: NDArray[np.float64]) -> list[bool]:
    return [any((other <= row).all() and (other < row).any() for other in losses) for row in losses]


@given(LOSSES)
def test_non_dominated_follows_the_definition(losses: NDArray[np.float64]) -> None:
    assert (~non_dominated(losses)).tolist() == _dominated_by_definition(losses)


@given(LOSSES)
def test_hypervolume_equals_moocore(losses: NDArray[np.float64]) -> None:
    reference = np.full(losses.shape[1], 5.0)
    one = losses.shape[1] == 1
    expected = max(5.0 - losses.min(), 0.0) if one else moocore.hypervolume(losses, ref=reference)
    assert hypervolume(losses, reference) == pytest.approx(expected, abs=1e-9)


@given(LOSSES.filter(lambda losses: losses.shape[1] > 1))
def test_contributions_equal_moocore(losses: NDArray[np.float64]) -> None:
    reference = np.full(losses.shape[1], 5.0)
    expected = [
        hypervolume(losses, reference) - moocore.hypervolume(np.delete(losses, row, axis=0), ref=reference)
        if len(losses) > 1
        else hypervolume(losses, reference)
        for row in range(len(losses))
    ]
    np.testing.assert_allclose(hypervolume_contributions(losses, reference), expected, atol=1e-9)


def test_nothing_dominates_nothing() -> None:
    assert hypervolume(np.empty((0, 2)), np.ones(2)) == 0.0
    assert non_dominated(np.empty((0, 2))).tolist() == []


def test_points_beyond_the_reference_add_nothing() -> None:
    assert hypervolume(np.array([[2.0, 0.0], [1.0, 0.5]]), np.ones(2)) == 0.0
