"""Layer-adaptive magnitude: a weight's share of its layer's sum of squares, comparable between layers."""

import torch
from torch import Tensor

from paretta.pipelines.importance import Importance, Rows


def lamp(weight: Tensor) -> Tensor:
    """Return ``w_ij^2`` divided by the sum of all squares in the layer that are not smaller.

    The largest weight of every layer scores 1, so that no layer is emptied under scope ``global`` (Lee et al., 2021,
    "Layer-adaptive sparsity for the magnitude-based pruning").

    >>> lamp(torch.tensor([[2.0, 1.0]])).tolist()
    [[1.0, 0.20000000298023224]]
    """
    squares = weight.double().square().flatten()
    order = torch.argsort(squares, descending=True)
    sums = squares[order].cumsum(0)
    # equal weights get the same denominator, independent of their order after sorting
    last = torch.searchsorted(-squares[order], -squares, right=True) - 1
    return (squares / sums[last].clamp_min(torch.finfo(torch.float64).tiny)).to(weight.dtype).view_as(weight)


class Lamp(Importance):
    """`lamp` of each weight; a channel scores the mean over its weights."""

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return lamp(rows.weight).mean(1)

    def weight_scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out, fan_in]."""
        return lamp(rows.weight)
