"""Evaluate a model during training, for decisions only; recorded readings come from the artifact."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from paretta.pipelines.losses.class_scores import num_counted
from paretta.pipelines.losses.metric_scores import scores_by
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.samples import Samples, num_samples
from paretta.pipelines.task import Split, Task
from paretta.pipelines.trees import TensorTree, call_model, moved, num_rows

EVALUATION_BATCH = 256


@torch.no_grad()
def split_scores(model: nn.Module, task: Task, dataset: Samples, ranks: Ranks) -> Tensor:
    """Return the model's class scores for the whole dataset, [n, ...], equal on all ranks (collective).

    Each rank computes its shard. The model is left on the ranks' device and in evaluation mode.
    """
    model.to(ranks.device).eval()
    mine = ranks.shard(torch.arange(num_samples(dataset)))
    parts = [
        task.scores_of(call_model(model, moved(task.batch(dataset, part)[0], ranks.device))).float()
        for part in torch.split(mine, EVALUATION_BATCH)
    ]
    found = torch.cat(parts)
    table = found.new_zeros(num_samples(dataset), *found.shape[1:])
    table[mine.to(ranks.device)] = found
    return ranks.all_reduce_sum(table)


@torch.no_grad()
def scores(model: nn.Module, task: Task, ranks: Ranks, split: Split = "validation") -> dict[str, float]:
    """Return the value of each of the task's metrics on a split, equal on all ranks (collective).

    The outputs are computed in torch, before export, so they are close but not identical to the artifact's. The model
    keeps its mode. The samples are divided among the ranks; if a metric needs all outputs at once, every rank computes
    all of them.

    Raises:
        WrongInput: the outputs or a metric's scores are not numbers, see `Metric.scores`.
    """
    was_training = model.training
    model.to(ranks.device).eval()
    dataset = task.split(split)
    takers = {name: scores_by(metric, task, resamples=False) for name, metric in task.metrics.items()}
    shared = all(_is_by_sample(model, task, dataset, ranks, name) for name in takers)
    places = torch.arange(num_samples(dataset))
    for outputs, targets in _answers(model, task, dataset, ranks, ranks.shard(places) if shared else places):
        for taker in takers.values():
            taker.update(outputs, targets)
    model.train(was_training)
    found = {name: taker.scored() for name, taker in takers.items()}
    if not shared or ranks.world_size == 1:
        return {name: scored.value for name, scored in found.items()}
    return {
        name: float(ranks.all_reduce_sum(torch.tensor(scored.value * scored.num_samples, device=ranks.device)))
        / num_samples(dataset)
        for name, scored in found.items()
    }


@torch.no_grad()
def mean_loss(model: nn.Module, task: Task, ranks: Ranks, split: Split = "validation") -> float:
    """Return the task's mean loss over a split, equal on all ranks (collective); the model is left in evaluation mode.

    It is the mean over batches of 256 samples, weighted by their counted labels.
    """
    model.to(ranks.device).eval()
    dataset = task.split(split)
    total = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    for outputs, targets in _answers(model, task, dataset, ranks, ranks.shard(torch.arange(num_samples(dataset)))):
        labels = task.labels_of(targets)
        weight = num_rows(outputs) if labels is None else num_counted(task, labels)
        if weight:
            total += total.new_tensor([weight * float(task.loss(outputs, targets)), weight])
    whole, weights = ranks.all_reduce_sum(total).tolist()
    return float(whole / weights)


def _answers(
    model: nn.Module, task: Task, dataset: Samples, ranks: Ranks, places: Tensor
) -> Iterator[tuple[TensorTree, TensorTree]]:
    """Yield outputs and targets batch by batch, on the CPU."""
    for part in torch.split(places, EVALUATION_BATCH):
        inputs, targets = task.batch(dataset, part)
        yield moved(call_model(model, moved(inputs, ranks.device)), "cpu"), targets


def _is_by_sample(model: nn.Module, task: Task, dataset: Samples, ranks: Ranks, name: str) -> bool:
    """Return whether a metric scores each sample by itself, judged by the first two; False on one rank."""
    if ranks.world_size == 1:
        return False
    first = torch.arange(min(2, num_samples(dataset)))
    taker = scores_by(task.metrics[name], task, resamples=False)
    for outputs, targets in _answers(model, task, dataset, ranks, first):
        taker.update(outputs, targets)
    return taker.scored().each is not None
