"""Squared error of the rounded weights; needs no data, but ignores how much each weight matters."""

import torch
from torch import Tensor

from paretta.pipelines.bench import Bench
from paretta.pipelines.sensitivities import Sensitivity, Subject


class Error(Sensitivity):
    """``sum_i (w_i - w_i(b))^2`` of each layer, the squared rounding error."""

    def costs(self, subject: Subject, bench: Bench) -> Tensor:
        """Return the squared errors, [layers, widths]."""
        return torch.stack([subject.changes(name).square().flatten(1).sum(1) for name in subject.layers])
