"""The task's mean loss over a global batch that is distributed over workers."""

from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import torch
from torch import Tensor

from paretta.pipelines.data.trees import TensorTree, mapped, num_rows, tensors, tree_rows
from paretta.pipelines.losses.class_scores import are_labels, counted, num_counted
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.task import Task
from paretta.search_spaces.errors import Problem, WrongInput

Weighing: TypeAlias = Literal["labels", "samples", "whole"]

_MANY_CLASSES = 1024  # maximum number of classes for which a loss is tested with one label of each class
_RELATIVE, _ABSOLUTE = 1e-5, 1e-7  # float32 means of the same numbers, summed in different orders, differ by less


@dataclass(frozen=True, slots=True)
class Shares:
    """The weight of one rank's part of a global batch, times the number of ranks, so that the mean over ranks is 1.

    Args:
        samples: the weight by samples.
        labels: the weight by labels that count; 1 if no label of the whole batch counts.
        num_labels: how many of its labels count.
    """

    samples: float = 1.0
    labels: Tensor | float = 1.0
    num_labels: int = 1

    @classmethod
    def of(cls, task: Task, ranks: Ranks, targets: TensorTree, num_global: int) -> Self:
        """Weigh this rank's targets [n, ...] in a global batch of `num_global` samples (collective)."""
        samples, here = num_rows(targets) * ranks.world_size / num_global, num_counted(task, targets)
        if ranks.world_size == 1 or counted(task, targets) is None:
            return cls(samples, samples, here)
        count = torch.tensor(float(here), device=ranks.device)
        return cls(samples, count * ranks.world_size / ranks.all_reduce_sum(count).clamp_min(1), here)


class GlobalLoss:
    """One rank's part of the task's loss of a global batch; the mean over ranks is the loss of the whole batch.

    Most losses are means over labels that count, or over samples; then each rank's loss is weighted by its share of
    them. Whether the task's loss is one of these is tested on the first global batch. Other losses, such as one with
    class weights or one that compares samples with each other, are computed by each rank from the outputs of all ranks.
    So the number of ranks never changes the loss.

    Args:
        task: with the loss.
        ranks: over which a batch is distributed.
        parts: in which each rank computes its share of a batch, one after the other.

    Raises:
        WrongInput: on the first call, if a batch in several parts has another loss than the whole one.
    """

    def __init__(self, task: Task, ranks: Ranks, parts: int = 1) -> None:
        self._task, self._ranks, self._parts = task, ranks, parts
        self._weighing: Weighing | None = None if ranks.world_size * parts > 1 else "labels"

    def __call__(self, outputs: TensorTree, targets: TensorTree, shares: Shares) -> Tensor:
        """Return this rank's part of the loss, a differentiable scalar (collective).

        Args:
            outputs: [n, ...], this rank's.
            targets: [n, ...], this rank's.
            shares: see `Shares`. If no label counts, the loss and its gradient are 0.
        """
        if self._weighing is None:
            self._weighing = self._tried(mapped(Tensor.detach, outputs), targets)
        if self._weighing == "whole":
            everything = self._everywhere(outputs), self._everywhere(targets)
            some = num_counted(self._task, everything[1]) > 0
            return self._task.loss(*everything) if some else _nothing(outputs)
        if shares.num_labels == 0:
            return _nothing(outputs)
        return self._task.loss(outputs, targets) * (shares.labels if self._weighing == "labels" else shares.samples)

    def _everywhere(self, tree: TensorTree) -> TensorTree:
        return mapped(lambda tensor: self._ranks.all_rows(tensor) if tensor.dim() else tensor, tree)

    def _tried(self, outputs: TensorTree, targets: TensorTree) -> Weighing:
        outputs, targets = self._everywhere(outputs), self._everywhere(targets)
        for weighing in ("labels", "samples"):
            agrees = is_mean_over(self._task, outputs, targets, weighing)
            if not self._ranks.any(not agrees):
                return weighing
        if self._parts > 1:
            rule = "the task's loss compares or weighs samples of a whole batch, so a batch cannot be computed in parts"
            raise WrongInput(Problem("accumulate", rule, self._parts, "set accumulate: 1, and a smaller batch_size"))
        return "whole"


@torch.no_grad()
def is_mean_over(task: Task, outputs: TensorTree, targets: TensorTree, weighing: Literal["labels", "samples"]) -> bool:
    """Return whether the task's loss is the mean over labels that count, or over samples.

    This holds if the loss of a batch is the weighted mean of the losses of its parts. The parts tested are the samples
    with low and with high labels, so that class weights are detected; for outputs [n, classes] one label of each class
    is also tested.

    Args:
        task: with the loss.
        outputs: [n, ...], outputs of a model.
        targets: [n, ...].
        weighing: whether the mean is over labels or samples.
    """
    batches = [(outputs, targets)]
    if _is_classification(outputs, targets):
        classes = torch.arange(outputs.shape[1], device=targets.device)
        batches.append((outputs[classes % len(outputs)], classes.to(targets.dtype)))
    return all(_is_mean(task, *batch, weighing) for batch in batches)


def _is_classification(outputs: TensorTree, targets: TensorTree) -> bool:
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.dim() == 2 and targets.dim() == 1):
        return False
    return are_labels(targets) and 2 <= outputs.shape[1] <= _MANY_CLASSES


def _is_mean(task: Task, outputs: TensorTree, targets: TensorTree, weighing: Literal["labels", "samples"]) -> bool:
    labels = task.labels_of(targets)
    order = torch.arange(num_rows(targets), device=None if labels is None else labels.device)
    if labels is not None:
        order = labels.reshape(len(labels), -1).double().mean(1).argsort(stable=True)
    total, weights = 0.0, 0
    for part in torch.tensor_split(order, 2):
        some = tree_rows(targets, part)
        num_labels = num_counted(task, some)
        if num_labels > 0:
            weight = num_labels if weighing == "labels" else len(part)
            total, weights = total + weight * float(task.loss(tree_rows(outputs, part), some)), weights + weight
    if weights == 0:
        return True
    whole = float(task.loss(outputs, targets))
    return abs(total / weights - whole) <= _RELATIVE * abs(whole) + _ABSOLUTE


def _nothing(outputs: TensorTree) -> Tensor:
    """Return 0 as a function of the outputs, so that a backward pass gives the parameters gradients of 0."""
    zeros = [0.0 * torch.nan_to_num(part, 0.0, 0.0, 0.0).sum() for part in tensors(outputs) if part.requires_grad]
    return torch.stack(zeros).sum()
