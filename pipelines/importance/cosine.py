"""Distance to the most similar other channel: of two duplicates the smaller is removed first and the larger stays."""

import torch
from torch import Tensor
from torch.nn import functional

from paretta.pipelines.importance import Importance, Rows


def cosine(weight: Tensor) -> Tensor:
    """Score rows by their order of removal if the smaller of the two most similar rows is removed repeatedly.

    The score is ``1 - cos(w_i, w_k)`` of the pair at its removal; the last row scores 2, a row of zeros 0. Scoring
    every row by its nearest neighbour alone would give both of two duplicates the lowest score, and remove both.

    >>> cosine(torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.0, 0.0]])).tolist()
    [1.0, 0.0, 2.0, 0.0]
    """
    norms, rows = weight.norm(dim=1), functional.normalize(weight, dim=1)
    similarity = (rows @ rows.T).fill_diagonal_(-torch.inf)
    scores = torch.where(norms > 0, 2.0, 0.0).to(weight.dtype)
    similarity[norms == 0], similarity[:, norms == 0] = -torch.inf, -torch.inf
    nearest, neighbour = similarity.max(1)
    for _ in range(int((norms > 0).sum()) - 1):
        first = int(nearest.argmax())
        gone = min(first, int(neighbour[first]), key=lambda row: float(norms[row]))
        scores[gone] = (1 - nearest[first]).clamp_min(0.0)
        nearest[gone], similarity[:, gone] = -torch.inf, -torch.inf
        bereft = ((neighbour == gone) & (nearest > -torch.inf)).nonzero().flatten()
        nearest[bereft], neighbour[bereft] = similarity[bereft].max(1)
    return scores


class Cosine(Importance):
    """`cosine` of each layer's weights."""

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return cosine(rows.weight)
