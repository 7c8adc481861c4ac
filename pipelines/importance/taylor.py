"""First-order estimate of how much the loss changes without a channel."""

from torch import Tensor

from pipelines.importance import Importance, Rows


def taylor(weight: Tensor, gradient: Tensor) -> Tensor:
    """Return ``|sum_j w_ij dL/dw_ij|`` (Molchanov et al., 2019, "Importance estimation for neural network pruning").

    >>> import torch
    >>> taylor(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, -3.0]])).tolist()
    [5.0]
    """
    return (weight * gradient).sum(1).abs()


class Taylor(Importance):
    """`taylor` of each layer's weights and gradients."""

    needs_gradient = True

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return taylor(rows.weight, rows.gradient)

    def weight_scores(self, rows: Rows) -> Tensor:
        """Return ``|w_ij dL/dw_ij|``, [out, fan_in]."""
        return (rows.weight * rows.gradient).abs()
