"""Pareto mathematics of long lists, where another algorithm takes over, against moocore and with ties."""

import moocore
import numpy as np
import pytest

from paretta.search_spaces.objectives.pareto import hypervolume, non_dominated


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
@pytest.mark.parametrize("distinct", [3, 30, 0])
@pytest.mark.parametrize("size", [201, 1500])
def test_long_lists_equal_moocore(num_objectives: int, distinct: int, size: int) -> None:
    rng = np.random.default_rng(size + distinct)
    losses = rng.random((size, num_objectives))
    if distinct:
        losses = np.floor(losses * distinct) / distinct
    assert non_dominated(losses).tolist() == moocore.is_nondominated(losses, keep_weakly=True).tolist()
    reference = np.full(num_objectives, 0.95)
    inside = losses[(losses < reference).all(axis=1)]
    assert hypervolume(losses, reference) == pytest.approx(moocore.hypervolume(inside, ref=reference), rel=1e-9)


def test_a_front_of_which_all_rows_count() -> None:
    angles = np.abs(np.random.default_rng(0).normal(size=(3000, 3)))
    losses = 1.0 - angles / np.linalg.norm(angles, axis=1)[:, None]
    assert non_dominated(losses).all()
    assert hypervolume(losses, np.ones(3)) == pytest.approx(moocore.hypervolume(losses, ref=np.ones(3)), rel=1e-9)
