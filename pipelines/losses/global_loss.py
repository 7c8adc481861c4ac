"""The task's mean loss over a global batch, of which each worker holds a part."""

from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import torch
from torch import Tensor

from paretta.pipelines.losses.class_scores import are_labels, num_counted
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.task import Task

Weighing: TypeAlias = Literal["labels", "samples", "whole"]

_MANY_CLASSES = 1024  # up to which a loss is tried on one label of each class
_RELATIVE, _ABSOLUTE = 1e-5, 1e-7  # float32 means of the same numbers in another order differ by less


@dataclass(frozen=True, slots=True)
class Shares:
    """What one rank's part of a global batch weighs, times the number of ranks, so that the mean over ranks is 1.

    Args:
        samples: by its samples.
        labels: by its labels that count; 1 where no label of the whole batch does.
        num_labels: how many of its labels count.
    """

    samples: float = 1.0
    labels: Tensor | float = 1.0
    num_labels: int = 1

    @classmethod
    def of(cls, task: Task, ranks: Ranks, targets: Tensor, num_global: int) -> Self:
        """Weigh this rank's targets [n, ...] in a global batch of `num_global` samples (collective)."""
        samples, here = len(targets) * ranks.world_size / num_global, num_counted(task, targets)
        if ranks.world_size == 1 or task.ignore_label is None or not are_labels(targets):
            return cls(samples, samples, here)
        count = torch.tensor(float(here), device=ranks.device)
        return cls(samples, count * ranks.world_size / ranks.all_reduce_sum(count).clamp_min(1), here)


class GlobalLoss:
    """The task's loss of a global batch as one rank sees it: the mean over ranks is the loss of the whole batch.

    Most losses are means over labels that count, or over samples, and each rank's loss is weighed by its share of
    them. Whether the task's is one of these is tried on the first batch, which all ranks put together. Others, such as
    one with weights for classes or one that compares samples with each other, are computed from the outputs of all
    ranks, by each of them. So the number of ranks never changes what a loss means.
    """

    def __init__(self, task: Task, ranks: Ranks) -> None:
        self._task, self._ranks = task, ranks
        self._weighing: Weighing | None = None if ranks.world_size > 1 else "labels"

    def __call__(self, outputs: Tensor, targets: Tensor, shares: Shares) -> Tensor:
        """Return this rank's part of the loss, a differentiable scalar (collective).

        Args:
            outputs: [n, ...], this rank's.
            targets: [n, ...], this rank's.
            shares: see `Shares`. Without a label that counts the loss is 0, and so is its gradient.
        """
        if self._weighing is None:
            self._weighing = self._tried(outputs.detach(), targets)
        if self._weighing == "whole":
            everything = self._ranks.all_rows(outputs), self._ranks.all_rows(targets)
            some = num_counted(self._task, everything[1]) > 0
            return self._task.loss(*everything) if some else _nothing(outputs)
        if shares.num_labels == 0:
            return _nothing(outputs)
        return self._task.loss(outputs, targets) * (shares.labels if self._weighing == "labels" else shares.samples)

    def _tried(self, outputs: Tensor, targets: Tensor) -> Weighing:
        outputs, targets = self._ranks.all_rows(outputs), self._ranks.all_rows(targets)
        for weighing in ("labels", "samples"):
            agrees = is_mean_over(self._task, outputs, targets, weighing)
            if not self._ranks.any(not agrees):
                return weighing
        return "whole"


@torch.no_grad()
def is_mean_over(task: Task, outputs: Tensor, targets: Tensor, weighing: Literal["labels", "samples"]) -> bool:
    """Tell whether the task's loss is the mean over labels that count, or over samples.

    That is, whether the loss of a batch is that of its parts, each weighed by what it holds. The parts are the samples
    with low labels and those with high ones, so that weights of classes show; of outputs [n, classes] one label of each
    class is tried as well.

    Args:
        task: with the loss.
        outputs: [n, ...], answers of a model.
        targets: [n, ...].
        weighing: over what.
    """
    batches = [(outputs, targets)]
    if outputs.dim() == 2 and targets.dim() == 1 and are_labels(targets) and 2 <= outputs.shape[1] <= _MANY_CLASSES:
        classes = torch.arange(outputs.shape[1], device=targets.device)
        batches.append((outputs[classes % len(outputs)], classes.to(targets.dtype)))
    return all(_is_mean(task, *batch, weighing) for batch in batches)


def _is_mean(task: Task, outputs: Tensor, targets: Tensor, weighing: Literal["labels", "samples"]) -> bool:
    order = targets.reshape(len(targets), -1).double().mean(1).argsort(stable=True)
    total, weights = 0.0, 0
    for part in torch.tensor_split(order, 2):
        labels = num_counted(task, targets[part])
        if labels > 0:
            weight = labels if weighing == "labels" else len(part)
            total, weights = total + weight * float(task.loss(outputs[part], targets[part])), weights + weight
    if weights == 0:
        return True
    whole = float(task.loss(outputs, targets))
    return abs(total / weights - whole) <= _RELATIVE * abs(whole) + _ABSOLUTE


def _nothing(outputs: Tensor) -> Tensor:
    """Return 0 that depends on the outputs, so that a backward pass reaches the parameters, and finds no gradient."""
    return 0.0 * torch.nan_to_num(outputs, 0.0, 0.0, 0.0).sum()
