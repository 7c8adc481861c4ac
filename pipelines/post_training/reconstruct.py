"""Reconstruct the outputs of pruned layers on unlabelled samples, by least squares."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.data.trees import moved
from paretta.pipelines.post_training.gather import batches, call_counts, gathered
from paretta.pipelines.post_training.layer_objective import LayerObjective
from paretta.pipelines.quantization.layer_graph import LayerGraph
from paretta.search_spaces.results.note import Note


def reconstruct(
    model: nn.Module, reference: nn.Module, kept: Mapping[str, Sequence[int]], bench: Bench, *, num_samples: int
) -> None:
    """Fit the weights of every layer of a pruned model to the outputs that it kept; equal on all ranks.

    Layers are visited in the order of their calls. With x what a layer reads in the pruned model by then, and y what
    the unpruned model answers in the channels that are left, its weight becomes ``argmin_w E ||y - w x - b||^2 + d ||w
    - w_0||^2``: what removed channels contributed is made up for as far as the others tell it. The bias follows, or the
    mean of the batch norm behind a layer without one. Source: He et al., "Channel pruning for accelerating very deep
    neural networks", 2017, section 3.1.2; Luo et al., "ThiNet", 2017.

    A layer whose weight is parametrized, or whose inputs never vary on the samples, keeps its weight, with a note.

    Args:
        model: pruned, in evaluation mode, on the bench's device.
        reference: the model before it was pruned.
        kept: for layers that lost outputs, those that are left.
        bench: provides the samples, without labels, and the seed that selects them.
        num_samples: how many samples to use.
    """
    inputs = batches(bench, num_samples, derived_seed(bench.seed, "reconstruction"))
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    graph = LayerGraph.of(model, moved(bench.task.example_input, bench.ranks.device))
    for name, num_calls in call_counts(model, names, inputs[0]).items():
        layer = model.get_submodule(name)
        if parametrize.is_parametrized(layer):
            bench.note(Note(bench.stage or "prune", "is not reconstructed: its weight is parametrized", (name,)))
            continue
        norm = graph.batch_norm_after(name) if layer.bias is None else None
        rows = torch.tensor(kept[name], device=bench.ranks.device) if name in kept else None
        objective = gathered(
            model, reference, name, inputs, num_calls=num_calls, frees_bias=layer.bias is not None or norm is not None,
            rows=rows,
        )  # fmt: skip
        if objective.is_degenerate:
            bench.note(Note(bench.stage or "prune", "is not reconstructed: its inputs never vary", (name,)))
            continue
        _set(layer, None if norm is None else model.get_submodule(norm), objective, bench)


@torch.no_grad()
def _set(layer: nn.Module, norm: nn.Module | None, objective: LayerObjective, bench: Bench) -> None:
    weight = cast(nn.Parameter, layer.weight)
    best = objective.best_weight()
    bias = bench.ranks.broadcast(objective.bias_for(best).flatten().float())
    weight.copy_(bench.ranks.broadcast(best.float().reshape(weight.shape)))
    if layer.bias is not None:
        cast(nn.Parameter, layer.bias).copy_(bias)
    elif isinstance(norm, _BatchNorm):
        cast(Tensor, norm.running_mean).sub_(bias)
