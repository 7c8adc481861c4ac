"""Sum of the absolute weights of a channel."""

from torch import Tensor

from paretta.pipelines.importance import Importance, Rows


def l1(weight: Tensor) -> Tensor:
    """Return ``sum_j |w_ij|`` (Li et al., 2017, "Pruning filters for efficient ConvNets").

    >>> import torch
    >>> l1(torch.tensor([[1.0, -2.0], [0.0, 0.5]])).tolist()
    [3.0, 0.5]
    """
    return weight.abs().sum(1)


class L1(Importance):
    """`l1` of each layer's weights."""

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return l1(rows.weight)
