"""How much a channel says: the mean size of what it hands to the layers after it."""

import torch
from torch import Tensor

from paretta.pipelines.importance import Importance, Rows


class Activity(Importance):
    """``E |a_i|`` over training samples and positions, read where later layers take it in, so after activations.

    Neurons that are almost always silent can go (Hu et al., 2016, "Network trimming: a data-driven neuron pruning
    approach", counts their zeros).
    """

    needs_activity = True

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]; all 1 where no layer takes the outputs in."""
        return torch.ones_like(rows.weight[:, 0]) if rows.activity is None else rows.activity
