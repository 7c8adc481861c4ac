"""Distance to the most similar other channel: of each two duplicates the smaller goes first, and the larger stays."""

import torch
from torch import Tensor
from torch.nn import functional

from paretta.pipelines.importance import Importance, Rows


def cosine(weight: Tensor) -> Tensor:
    """Score rows by when they go if, again and again, the smaller of the two most similar rows is taken away.

    The score is ``1 - cos(w_i, w_k)`` of the two at that moment; the row left over at the end scores 2, a row of zeros
    0. To score every row by its nearest neighbour alone would rate both of two duplicates lowest, and lose both.

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
