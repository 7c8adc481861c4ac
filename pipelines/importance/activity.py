"""Mean absolute activation of a channel, as the next layers receive it."""

import torch
from torch import Tensor

from paretta.pipelines.importance import Importance, Rows


class Activity(Importance):
    """``E |a_i|`` over training samples and positions, at the input of the next layers, so after activation functions.

    Neurons that are almost always zero can be removed (Hu et al., 2016, "Network trimming: a data-driven neuron pruning
    approach", counts their zeros).
    """

    needs_activity = True

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]; all 1 if no layer reads the outputs."""
        return torch.ones_like(rows.weight[:, 0]) if rows.activity is None else rows.activity
