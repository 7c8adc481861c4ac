"""Squared error of the rounded weights: needs no data, and knows nothing of what a weight is for."""

import torch
from torch import Tensor

from paretta.pipelines.bench import Bench
from paretta.pipelines.sensitivities import Sensitivity, Subject


class Error(Sensitivity):
    """``sum_i (w_i - w_i(b))^2`` of each layer, the plain error that a layer's width leaves."""

    def costs(self, subject: Subject, bench: Bench) -> Tensor:
        """Return the squared errors, [layers, widths]."""
        return torch.stack([subject.changes(name).square().flatten(1).sum(1) for name in subject.layers])
