"""What a model in training answers, and how good that is: for decisions on the way, never for the record."""

import torch
from torch import Tensor, nn

from paretta.pipelines.ranks import Ranks
from paretta.pipelines.samples import Samples, num_samples, take
from paretta.pipelines.task import Split, Task

EVALUATION_BATCH = 256


@torch.no_grad()
def split_answers(model: nn.Module, dataset: Samples, ranks: Ranks) -> Tensor:
    """Return the model's outputs for the whole dataset, [n, ...], equal on all ranks (collective).

    Each rank computes its share. The model is left on the ranks' device and in evaluation mode.
    """
    model.to(ranks.device).eval()
    mine = ranks.shard(torch.arange(num_samples(dataset)))
    parts = [model(take(dataset, part)[0].to(ranks.device)).float() for part in torch.split(mine, EVALUATION_BATCH)]
    found = torch.cat(parts)
    table = found.new_zeros(num_samples(dataset), *found.shape[1:])
    table[mine.to(ranks.device)] = found
    return ranks.all_reduce_sum(table)


def scores(model: nn.Module, task: Task, ranks: Ranks, split: Split = "validation") -> dict[str, float]:
    """Return the mean of each of the task's metrics on a split, equal on all ranks (collective).

    The model answers in torch, before it is exported: close to what its artifact will do, not the same. It is left in
    the mode that it came in. Raises `WrongInput` where its answers or a metric's are no numbers, see `Metric.scores`.
    """
    was_training = model.training
    dataset = task.split(split)
    outputs = split_answers(model, dataset, ranks).cpu()
    model.train(was_training)
    targets = _targets(dataset)
    return {name: float(metric.scores(outputs, targets).mean()) for name, metric in task.metrics.items()}


@torch.no_grad()
def mean_loss(model: nn.Module, task: Task, ranks: Ranks, split: Split = "validation") -> float:
    """Return the task's loss of a split, equal on all ranks (collective); the model is left in evaluation mode."""
    dataset = task.split(split)
    return float(task.loss(split_answers(model, dataset, ranks).cpu(), _targets(dataset)))


def _targets(dataset: Samples) -> Tensor:
    places = torch.arange(num_samples(dataset))
    return torch.cat([take(dataset, part)[1] for part in torch.split(places, EVALUATION_BATCH)])
