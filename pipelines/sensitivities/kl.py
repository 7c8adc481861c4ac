"""Divergence of the class probabilities when one layer alone is rounded: measured, not estimated."""

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from paretta.pipelines.bench import Bench
from paretta.pipelines.sensitivities import WIDTHS, Sensitivity, Subject
from paretta.search_spaces.errors import Problem, WrongInput


class Kl(Sensitivity):
    """``KL(softmax(y) || softmax(y_b))``, the mean over samples, y_b the answers with one layer rounded to b bits.

    One pass for each layer and width. Source: Cai et al., "ZeroQ: a novel zero shot quantization framework", 2020.
    """

    @torch.no_grad()
    def costs(self, subject: Subject, bench: Bench) -> Tensor:
        """Return the divergences, [layers, widths]. Raises `WrongInput` where the outputs are no class scores."""
        inputs, _ = subject.batch(bench)
        scores = subject.model(inputs)
        if scores.dim() < 2 or scores.shape[1] < 2:
            rule = "kl compares class scores [n, classes >= 2]"
            raise WrongInput(Problem("quantize.bits.sensitivity", rule, list(scores.shape), "use fisher"))
        expected = functional.log_softmax(scores, dim=1)
        rows = []
        for name in subject.layers:
            weight, parameter = subject.weight(name), subject.parameter(name)[0]
            variants = [{parameter: subject.rounded(weight, bits)} for bits in WIDTHS]
            found = [functional_call(subject.model, variant, (inputs,)) for variant in variants]
            rows.append(torch.stack([_divergence(expected, scores) for scores in found]))
        return torch.stack(rows)


def _divergence(expected: Tensor, scores: Tensor) -> Tensor:
    logs = functional.log_softmax(scores, dim=1)
    return functional.kl_div(logs, expected, reduction="none", log_target=True).sum(1).mean().clamp_min(0)
