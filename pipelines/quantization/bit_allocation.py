"""Which layer gets how many bits, so that the model loses least within a budget."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp


class NoAllocation(Exception):
    """Even the smallest choice of every layer is over the budget."""


def allocate(costs: NDArray[np.float64], sizes: NDArray[np.float64], budget: float) -> Sequence[int]:
    """Choose one option per layer with the least total cost whose total size keeps to the budget, exactly.

    The multiple-choice knapsack problem, solved as an integer linear program by HiGHS. Costs may only fall from one
    option to the next; a rise, which is noise, is levelled first.

    Args:
        costs: [layers, options], not negative.
        sizes: [layers, options], rising along the options.
        budget: the largest total size.

    Returns:
        The index of the option of each layer.

    Raises:
        NoAllocation: the first options together are already too large.

    >>> list(allocate(np.array([[9.0, 1.0], [5.0, 4.0]]), np.array([[2.0, 4.0], [2.0, 4.0]]), 6.0))
    [1, 0]
    """
    costs = np.minimum.accumulate(costs, axis=1)
    if sizes[:, 0].sum() > budget * (1 + 1e-9):
        raise NoAllocation
    layers, options = costs.shape
    one_each = np.kron(np.eye(layers), np.ones(options))
    # the solver's tolerances are absolute, so the numbers are brought near one
    solution = milp(
        (costs / _reached(costs, sizes, budget)).ravel(),
        integrality=np.ones(costs.size),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(sizes.ravel()[None] / budget, -np.inf, 1 + 1e-9),
        ],
        options={"mip_rel_gap": 0.0},
    )
    assert solution.x is not None, solution.message
    chosen: list[int] = solution.x.reshape(layers, options).argmax(1).tolist()
    return chosen


def _reached(costs: NDArray[np.float64], sizes: NDArray[np.float64], budget: float) -> float:
    """Return what the best equal choice for all layers costs, which the best mixed one is near."""
    column = int(np.flatnonzero(sizes.sum(0) <= budget * (1 + 1e-9))[-1])
    return float(costs[:, column].sum()) or 1.0
