"""Distance to the most similar other channel: duplicates go first."""

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.importance import Importance, Rows


def cosine(weight: Tensor) -> Tensor:
    """Return ``1 - max_{k != i} cos(w_i, w_k)``; a row of zeros scores 0, a single row 1.

    >>> cosine(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])).tolist()
    [1.0, 1.0, 0.0]
    """
    if len(weight) == 1:
        return torch.ones(1, dtype=weight.dtype, device=weight.device)
    rows = functional.normalize(weight, dim=1)
    similarity = (rows @ rows.T).fill_diagonal_(-1.0)
    distance = (1 - similarity.max(1).values).clamp_min(0.0)
    return torch.where(weight.norm(dim=1) > 0, distance, 0.0)


class Cosine(Importance):
    """`cosine` of each layer's weights."""

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return cosine(rows.weight)
