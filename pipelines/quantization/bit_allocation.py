"""Allocate bits to layers so that the cost is minimal within a budget."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp


class NoAllocation(Exception):
    """Even the smallest options of all layers exceed the budget."""


def allocate(costs: NDArray[np.float64], sizes: NDArray[np.float64], budget: float) -> Sequence[int]:
    """Choose one option per layer so that the total cost is minimal and the total size is within the budget (exact).

    This is the multiple-choice knapsack problem, solved as an integer linear program by HiGHS. Costs must not rise from
    one option to the next, so rises, which are noise, are first removed by a running minimum.

    Args:
        costs: [layers, options], non-negative.
        sizes: [layers, options], ascending along the options.
        budget: the largest total size.

    Returns:
        The index of the option of each layer.

    Raises:
        NoAllocation: the first options together exceed the budget.

    >>> list(allocate(np.array([[9.0, 1.0], [5.0, 4.0]]), np.array([[2.0, 4.0], [2.0, 4.0]]), 6.0))
    [1, 0]
    """
    costs = np.minimum.accumulate(costs, axis=1)
    if sizes[:, 0].sum() > budget * (1 + 1e-9):
        raise NoAllocation
    layers, options = costs.shape
    one_each = np.kron(np.eye(layers), np.ones(options))
    # the solver's tolerances are absolute, so the numbers are scaled to about 1
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
    """Return the cost of the best uniform choice for all layers, as the scale of the optimum."""
    column = int(np.flatnonzero(sizes.sum(0) <= budget * (1 + 1e-9))[-1])
    return float(costs[:, column].sum()) or 1.0
