"""Mean absolute gradient of a channel's weights."""

from torch import Tensor

from paretta.pipelines.importance import Importance, Rows


def gradient(gradients: Tensor) -> Tensor:
    """Return ``mean_j |dL/dw_ij|``, the mean absolute gradient of the channel's weights.

    >>> import torch
    >>> gradient(torch.tensor([[1.0, -3.0]])).tolist()
    [2.0]
    """
    return gradients.abs().mean(1)


class Gradient(Importance):
    """`gradient` of each layer's gradients."""

    needs_gradient = True

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return gradient(rows.gradient)

    def weight_scores(self, rows: Rows) -> Tensor:
        """Return ``|dL/dw_ij|``, [out, fan_in]."""
        return rows.gradient.abs()
