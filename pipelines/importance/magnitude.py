"""Absolute value of a weight; a channel scores as its largest weight."""

from torch import Tensor

from paretta.pipelines.importance import Importance, Rows


def magnitude(weight: Tensor) -> Tensor:
    """Return ``|w_ij|`` (Han et al., 2015, "Learning both weights and connections for efficient neural networks").

    >>> import torch
    >>> magnitude(torch.tensor([[1.0, -2.0]])).tolist()
    [[1.0, 2.0]]
    """
    return weight.abs()


class Magnitude(Importance):
    """`magnitude` of each weight; a channel scores as its largest weight, ``max_j |w_ij|``."""

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return magnitude(rows.weight).amax(1)

    def weight_scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out, fan_in]."""
        return magnitude(rows.weight)
