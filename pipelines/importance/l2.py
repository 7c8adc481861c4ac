"""Euclidean norm of the weights of a channel."""

from torch import Tensor

from paretta.pipelines.importance import Importance, Rows


def l2(weight: Tensor) -> Tensor:
    """Return ``sqrt(sum_j w_ij^2)`` (He et al., 2018, "Soft filter pruning").

    >>> import torch
    >>> l2(torch.tensor([[3.0, -4.0], [0.0, 0.5]])).tolist()
    [5.0, 0.5]
    """
    norms: Tensor = weight.norm(dim=1)
    return norms


class L2(Importance):
    """`l2` of each layer's weights."""

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return l2(rows.weight)
