"""Second-order estimate of the rise of the loss, with squared gradients instead of the curvature."""

import torch
from torch import Tensor

from paretta.pipelines.bench import Bench
from paretta.pipelines.data.trees import call_model, num_rows, tree_rows
from paretta.pipelines.sensitivities import Sensitivity, Subject


class Fisher(Sensitivity):
    """``1/2 sum_i F_i (w_i - w_i(b))^2`` with the empirical Fisher diagonal ``F_i = mean over samples of (dL/dw_i)^2``.

    Takes a forward and a backward pass for each sample. Source: Zandonati et al., "FIT: a metric for model
    sensitivity", 2023.
    """

    def costs(self, subject: Subject, bench: Bench) -> Tensor:
        """Return the estimates, [layers, widths]."""
        squares = squared_gradients(subject, bench)
        return torch.stack(
            [
                (subject.changes(name).square() * square).flatten(1).sum(1) / 2
                for name, square in zip(subject.layers, squares, strict=True)
            ]
        )


def squared_gradients(subject: Subject, bench: Bench) -> list[Tensor]:
    """Return the mean over samples of each sample's squared gradient, one tensor per layer, shaped like its weight."""
    inputs, targets = subject.batch(bench)
    weights = [subject.parameter(name)[1] for name in subject.layers]
    totals = [torch.zeros_like(weight) for weight in weights]
    for index in range(num_rows(inputs)):
        one = slice(index, index + 1)
        loss = bench.task.loss(call_model(subject.model, tree_rows(inputs, one)), tree_rows(targets, one))
        for total, gradient in zip(totals, torch.autograd.grad(loss, weights), strict=True):
            total.addcmul_(gradient, gradient)
    return [total / num_rows(inputs) for total in totals]
