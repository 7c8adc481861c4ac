"""Excess of a channel's weights over the layer's median magnitude, by the Huber loss."""

import torch
from torch import Tensor

from paretta.pipelines.importance import Importance, Rows


def huber_excess(weight: Tensor, threshold: float | Tensor) -> Tensor:
    """Return ``sum_j h(max(|w_ij| - t, 0))`` with ``h(e) = e^2 / 2`` up to t and ``t (e - t / 2)`` beyond.

    Weights below the threshold t count as noise. A single very large weight does not dominate a row, as it would if
    squared (Huber, 1964, "Robust estimation of a location parameter").

    >>> huber_excess(torch.tensor([[1.0, -1.5], [0.5, 9.0]]), 1.0).tolist()
    [0.125, 7.5]
    """
    excess = (weight.abs() - threshold).clamp_min(0.0)
    return torch.where(excess <= threshold, excess.square() / 2, threshold * (excess - threshold / 2)).sum(1)


class Huber(Importance):
    """`huber_excess` over the layer's median ``|w|``."""

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return huber_excess(rows.weight, rows.weight.abs().median())
