"""First-order estimate of how much the loss changes without a channel."""

import torch
from torch import Tensor

from paretta.pipelines.importance import Importance, Rows


class Taylor(Importance):
    """``E_batches |dL/dgate_i|``, where a gate of 1 multiplies the output of channel i.

    Molchanov et al., 2017, "Pruning convolutional neural networks for resource efficient inference", with the gate
    after the batch norm (Molchanov et al., 2019, "Importance estimation for neural network pruning"). A gate before it
    would have almost no effect, since a batch norm removes the scale of its input. A single weight scores ``|w|
    E_batches |dL/dw|``. The absolute value is taken per batch, since a trained model's mean gradient is about zero.
    """

    needs_gradient = True

    def scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out]."""
        return torch.zeros(len(rows.weight)) if rows.gate is None else rows.gate

    def weight_scores(self, rows: Rows) -> Tensor:
        """Return the scores, [out, fan_in]."""
        return rows.weight.abs() * rows.mean_abs_gradient
