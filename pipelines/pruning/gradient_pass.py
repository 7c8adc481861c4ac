"""Compute gradients and mean activations of a model's weights and channels in a pass over training data."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.data.samples import draw
from paretta.pipelines.data.trees import call_model, moved
from paretta.pipelines.losses.class_scores import num_counted
from paretta.pipelines.model.weights import LAYERS

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients of the task's loss by parameter; empty without a pass.

    Args:
        mean: ``E[g]`` over batches.
        mean_abs: ``E[|g|]`` over batches, in which opposite gradients of batches do not cancel.
        gates: of each layer and batch norm, [out], ``E[|dL/dgate|]`` over batches, where a gate of 1 multiplies each of
            its outputs: the first-order change of the loss without that output.
    """

    mean: dict[nn.Parameter, Tensor] = field(default_factory=dict)
    mean_abs: dict[nn.Parameter, Tensor] = field(default_factory=dict)
    gates: dict[nn.Module, Tensor] = field(default_factory=dict)

    def of(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        """Return both for `parameter`; zeros if they are unknown."""
        zeros = torch.zeros_like(parameter)
        return self.mean.get(parameter, zeros), self.mean_abs.get(parameter, zeros)


def gradients(model: nn.Module, bench: Bench, count: int) -> Gradients:
    """Measure the gradients on `count` training samples in batches of 64, equal on all ranks (collective).

    Every rank computes all samples, since they are few, so that the result is the same on one rank and on many for any
    loss. The model keeps its mode and is left without gradients.
    """
    found = Gradients()
    chosen = draw(bench.task.train, count, derived_seed(bench.seed, "samples"))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gated = [module for module in model.modules() if isinstance(module, (*LAYERS, _BatchNorm))]
    for batch in torch.split(chosen, _BATCH):
        model.zero_grad(set_to_none=True)
        inputs, targets = bench.task.batch(bench.task.train, batch, training=True)
        if num_counted(bench.task, targets) > 0:
            outputs = call_model(model, moved(inputs, bench.ranks.device))
            loss = bench.task.loss(outputs, moved(targets, bench.ranks.device))
            loss.backward()  # type: ignore[no-untyped-call]
        bench.ranks.average_gradients(model)
        for parameter in trained:
            if parameter.grad is not None:
                gradient = parameter.grad * (len(batch) / len(chosen))
                found.mean[parameter] = found.mean.get(parameter, 0.0) + gradient
                found.mean_abs[parameter] = found.mean_abs.get(parameter, 0.0) + gradient.abs()
        for module in gated:
            if (slope := _gate_gradient(module)) is not None:
                found.gates[module] = found.gates.get(module, 0.0) + slope.abs() * (len(batch) / len(chosen))
    model.zero_grad(set_to_none=True)
    return found


@torch.no_grad()
def _gate_gradient(module: nn.Module) -> Tensor | None:
    """Return dL/dgate of each output, [out], from the gradients of its parameters; None if they have none.

    Output i is ``gate_i (f_i(x; w_i) + b_i)`` with f linear in the weights, so that its derivative at 1 is
    ``sum_j w_ij dL/dw_ij + b_i dL/db_i``; for a batch norm the scale takes the place of the weights.
    """
    own = [getattr(module, name, None) for name in ("weight", "bias")]
    terms = [(p * p.grad).reshape(len(p), -1).sum(1) for p in own if p is not None and p.grad is not None]
    return torch.stack(terms).sum(0) if terms else None


@torch.no_grad()
def activities(model: nn.Module, bench: Bench, count: int) -> dict[nn.Module, Tensor]:
    """Return for each layer the mean absolute value of each of its input channels, [in], equal on all ranks.

    The mean is over `count` training samples and all positions (collective). The model keeps its mode.
    """
    sums: dict[nn.Module, Tensor] = {}
    values: dict[nn.Module, int] = {}

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].abs().transpose(1, -1) if isinstance(layer, LAYERS[:3]) else inputs[0].abs()
        flat = rows.reshape(-1, rows.shape[-1]).double()
        sums[layer] = sums.get(layer, 0.0) + flat.sum(0)
        values[layer] = values.get(layer, 0) + len(flat)

    handles = [layer.register_forward_pre_hook(watch) for layer in model.modules() if isinstance(layer, LAYERS)]
    chosen = draw(bench.task.statistics_samples, count, derived_seed(bench.seed, "samples"))
    for part in torch.split(bench.ranks.shard(chosen), _BATCH):
        if len(part) > 0:
            call_model(model, moved(bench.task.calibration_inputs(part), bench.ranks.device))
    for handle in handles:
        handle.remove()
    return {
        layer: (bench.ranks.all_reduce_sum(total) / bench.ranks.all_reduce_sum(total.new_tensor(values[layer]))).float()
        for layer, total in sums.items()
    }
