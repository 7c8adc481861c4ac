"""Evaluate a model during training, for decisions only; recorded readings come from the artifact."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from paretta.pipelines.batches.loaders import Loaders
from paretta.pipelines.batches.request import EVALUATION_BATCH, BatchRequest
from paretta.pipelines.data.samples import num_samples
from paretta.pipelines.data.trees import TensorTree, call_model, moved, num_rows
from paretta.pipelines.losses.class_scores import num_counted
from paretta.pipelines.losses.metric_scores import scores_by
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.task import Split, Task


@torch.no_grad()
def split_scores(
    model: nn.Module, task: Task, ranks: Ranks, split: Split = "validation", loaders: Loaders | None = None
) -> Tensor:
    """Return the model's class scores for the whole split, [n, ...], equal on all ranks (collective).

    Each rank computes its shard. The model is left on the ranks' device and in evaluation mode.
    """
    model.to(ranks.device).eval()
    count = num_samples(task.split(split))
    mine = ranks.shard(torch.arange(count))
    parts = [
        task.scores_of(call_model(model, moved(inputs, ranks.device))).float()
        for inputs, _ in _batches(task, split, mine, loaders)
    ]
    found = torch.cat(parts)
    table = found.new_zeros(count, *found.shape[1:])
    table[mine.to(ranks.device)] = found
    return ranks.all_reduce_sum(table)


@torch.no_grad()
def scores(
    model: nn.Module, task: Task, ranks: Ranks, split: Split = "validation", loaders: Loaders | None = None
) -> dict[str, float]:
    """Return the value of each of the task's metrics on a split, equal on all ranks (collective).

    The outputs are computed in torch, before export, so they are close but not identical to the artifact's. The model
    keeps its mode. The samples are divided among the ranks; if a metric needs all outputs at once, every rank computes
    all of them.

    Raises:
        WrongInput: the outputs or a metric's scores are not numbers, see `Metric.scores`.
    """
    was_training = model.training
    model.to(ranks.device).eval()
    count = num_samples(task.split(split))
    takers = {name: scores_by(metric, task, resamples=False) for name, metric in task.metrics.items()}
    shared = all(_is_by_sample(model, task, split, ranks, name) for name in takers)
    places = torch.arange(count)
    mine = ranks.shard(places) if shared else places
    for outputs, targets in _answers(model, task, split, ranks, mine, loaders=loaders):
        for taker in takers.values():
            taker.update(outputs, targets)
    model.train(was_training)
    found = {name: taker.scored() for name, taker in takers.items()}
    if not shared or ranks.world_size == 1:
        return {name: scored.value for name, scored in found.items()}
    return {
        name: float(ranks.all_reduce_sum(torch.tensor(scored.value * scored.num_samples, device=ranks.device))) / count
        for name, scored in found.items()
    }


@torch.no_grad()
def mean_loss(
    model: nn.Module, task: Task, ranks: Ranks, split: Split = "validation", loaders: Loaders | None = None
) -> float:
    """Return the task's mean loss over a split, equal on all ranks (collective); the model is left in evaluation mode.

    It is the mean over batches of 256 samples, weighted by their counted labels.
    """
    model.to(ranks.device).eval()
    mine = ranks.shard(torch.arange(num_samples(task.split(split))))
    total = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    for outputs, targets in _answers(model, task, split, ranks, mine, loaders=loaders):
        labels = task.labels_of(targets)
        weight = num_rows(outputs) if labels is None else num_counted(task, labels)
        if weight:
            total += total.new_tensor([weight * float(task.loss(outputs, targets)), weight])
    whole, weights = ranks.all_reduce_sum(total).tolist()
    return float(whole / weights)


def _batches(
    task: Task, split: Split, places: Tensor, loaders: Loaders | None
) -> Iterator[tuple[TensorTree, TensorTree]]:
    """Yield inputs and targets batch by batch; random views of a sample are the same each time."""
    requests = (BatchRequest(split, part) for part in torch.split(places, EVALUATION_BATCH))
    for _, batch in (loaders or Loaders()).read(task, requests):
        yield task.parts(batch)


def _answers(
    model: nn.Module, task: Task, split: Split, ranks: Ranks, places: Tensor, *, loaders: Loaders | None = None
) -> Iterator[tuple[TensorTree, TensorTree]]:
    """Yield outputs and targets batch by batch, on the CPU."""
    for inputs, targets in _batches(task, split, places, loaders):
        yield moved(call_model(model, moved(inputs, ranks.device)), "cpu"), targets


def _is_by_sample(model: nn.Module, task: Task, split: Split, ranks: Ranks, name: str) -> bool:
    """Return whether a metric scores each sample by itself, judged by the first two; False on one rank."""
    if ranks.world_size == 1:
        return False
    first = torch.arange(min(2, num_samples(task.split(split))))
    taker = scores_by(task.metrics[name], task, resamples=False)
    for outputs, targets in _answers(model, task, split, ranks, first):
        taker.update(outputs, targets)
    return taker.scored().each is not None
