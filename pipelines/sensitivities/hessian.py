"""Second-order estimate of the rise of the loss, with the mean curvature of each layer."""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.data.trees import call_model
from paretta.pipelines.sensitivities import Sensitivity, Subject

PROBES = 8


class Hessian(Sensitivity):
    """``1/2 (tr H / n) sum_i (w_i - w_i(b))^2`` with H the Hessian of the loss in the layer's n weights.

    The trace is estimated with random signs v as the mean of ``v^T H v`` (Hutchinson, 1990); a negative estimate counts
    as zero. Source: Dong et al., "HAWQ-V2: Hessian aware trace-weighted quantization", 2020.
    """

    def costs(self, subject: Subject, bench: Bench) -> Tensor:
        """Return the estimates, [layers, widths]."""
        traces = hessian_traces(subject, bench)
        costs = []
        for name, trace in zip(subject.layers, traces, strict=True):
            curvature = trace.clamp_min(0) / subject.weight(name).numel()
            costs.append(subject.changes(name).square().flatten(1).sum(1) * curvature / 2)
        return torch.stack(costs)


def hessian_traces(subject: Subject, bench: Bench, probes: int = PROBES) -> Tensor:
    """Return an estimate of the trace of the loss's Hessian with respect to each layer's weights, [layers]."""
    inputs, targets = subject.batch(bench)
    weights = [subject.parameter(name)[1] for name in subject.layers]
    generator = torch.Generator().manual_seed(derived_seed(bench.seed, "hessian"))
    traces = torch.zeros(len(weights), device=bench.ranks.device)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
        loss = bench.task.loss(call_model(subject.model, inputs), targets)
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        for _ in range(probes):
            signs = [_signs(weight, generator) for weight in weights]
            products = torch.autograd.grad(gradients, weights, signs, retain_graph=True)
            traces += torch.stack([(s * p).sum() for s, p in zip(signs, products, strict=True)])
    return traces / probes


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.randint(0, 2, like.shape, generator=generator) * 2.0 - 1.0).to(like.device)
