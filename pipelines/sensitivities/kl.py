"""Divergence of the class probabilities if a single layer is rounded; measured, not estimated."""

import torch
from torch import Tensor
from torch.func import functional_call

from paretta.pipelines.bench import Bench
from paretta.pipelines.data.trees import as_inputs
from paretta.pipelines.losses.class_scores import class_axis, counted, divergence, masked_mean
from paretta.pipelines.sensitivities import WIDTHS, Sensitivity, Subject


class Kl(Sensitivity):
    """``KL(softmax(y) || softmax(y_b))``, the mean over labels that are not ignored.

    ``y_b`` are the outputs with one layer rounded to b bits; takes one pass for each layer and width. Source: Cai et
    al., "ZeroQ: a novel zero shot quantization framework", 2020.
    """

    @torch.no_grad()
    def costs(self, subject: Subject, bench: Bench) -> Tensor:
        """Return the divergences, [layers, widths]. Raises `WrongInput` if the outputs are not class scores."""
        inputs, targets = subject.batch(bench)
        task, call = bench.task, as_inputs(inputs)
        expected = task.scores_of(subject.model(*call.args, **call.kwargs))
        axis = class_axis(task, expected.shape, targets, where="quantize.bits.sensitivity kl")
        rows, mask = [], counted(task, targets)
        for name in subject.layers:
            weight, parameter = subject.weight(name), subject.parameter(name)[0]
            variants = [{parameter: subject.rounded(name, weight, bits)} for bits in WIDTHS]
            found = [functional_call(subject.model, variant, call.args, dict(call.kwargs)) for variant in variants]
            gaps = [divergence(expected, task.scores_of(outputs), axis) for outputs in found]
            rows.append(torch.stack([masked_mean(gap, mask).clamp_min(0) for gap in gaps]))
        return torch.stack(rows)
