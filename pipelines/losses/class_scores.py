"""Class scores: their axis, the labels that count, and the divergence of two class distributions."""

from collections.abc import Sequence
from typing import Final, cast

import torch
from torch import Tensor

from paretta.pipelines.data.trees import TensorTree, num_rows
from paretta.pipelines.task import Task
from paretta.search_spaces.errors import Problem, WrongInput

CLASS_TYPES: Final = (torch.int64, torch.uint8)  # of labels that torch's cross entropy takes


def are_labels(targets: Tensor) -> bool:
    """Return True if targets are integers, as class labels are."""
    return not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)


def possible_axes(shape: Sequence[int], targets: Tensor) -> list[int]:
    """Return the possible class axes of outputs of this shape: those that the class labels lack.

    >>> possible_axes([8, 20, 1000], torch.zeros(8, 20, dtype=torch.long))
    [2]
    """
    if not are_labels(targets) or targets.dim() != len(shape) - 1:
        return []
    return [axis for axis in range(1, len(shape)) if [*shape[:axis], *shape[axis + 1 :]] == list(targets.shape)]


def class_axis(task: Task, shape: Sequence[int], targets: TensorTree, *, where: str) -> int:
    """Return the axis of outputs that holds one score for each class, counted from 0.

    It is the task's `class_axis` if set; 1 for outputs [n, classes]; otherwise the one axis that the class labels lack,
    such as the last one of outputs [n, tokens, classes] with targets [n, tokens].

    Args:
        task: may state the axis.
        shape: of the class scores, [n, ...].
        targets: of the same samples.
        where: the caller, for messages.

    Raises:
        WrongInput: the outputs are not class scores, or their axis is ambiguous.
    """
    labels = task.labels_of(targets)
    if task.class_axis is not None:
        axis = task.class_axis % len(shape) if -len(shape) <= task.class_axis < len(shape) else 0
    elif len(shape) == 2:
        axis = 1
    else:
        possible = possible_axes(shape, labels) if len(shape) > 2 and labels is not None else [0]
        if len(possible) != 1:
            raise WrongInput(_untold(where, shape, cast(Tensor, labels)))
        axis = possible[0]
    if axis == 0 or shape[axis] < 2:
        hint = "train without it, or give the task its `class_axis`"
        raise WrongInput(Problem(where, "outputs must be class scores [n, classes >= 2]", list(shape), hint))
    return axis


def _untold(where: str, shape: Sequence[int], targets: Tensor) -> Problem:
    rule = f"which axis of outputs {list(shape)} holds the classes is not told by targets {list(targets.shape)}"
    return Problem(where, rule, hint="give the task `class_axis`, such as Task(class_axis=-1, ...)")


def counted(task: Task, targets: TensorTree) -> Tensor | None:
    """Return a mask of the labels that count, shaped like the labels; None if all count or targets are not labels."""
    labels = task.labels_of(targets)
    if task.ignore_label is None or labels is None or not are_labels(labels):
        return None
    return labels != task.ignore_label


def num_counted(task: Task, targets: TensorTree) -> int:
    """Return how many labels count, or the number of samples if targets are not labels."""
    mask = counted(task, targets)
    return num_rows(targets) if mask is None else int(mask.sum())


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean of values [n, ...] where `mask` is True, or of all if its shape differs; 0 if none is True."""
    if mask is None or mask.shape != values.shape:
        return values.mean()
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)


def divergence(expected: Tensor, scores: Tensor, axis: int) -> Tensor:
    """Return ``KL(softmax(expected) || softmax(scores))`` at each position, shaped like the scores without the classes.

    A class that `expected` rules out, with a score of -inf or one that underflows, contributes 0 whatever the other
    score is, since ``p log p`` tends to 0 with p.

    Args:
        expected: class scores, with classes on `axis`.
        scores: the same shape.
        axis: of the classes.

    >>> impossible = torch.tensor([[0.0, 0.0, -torch.inf]])
    >>> divergence(impossible, impossible + 1, 1)
    tensor([0.])
    """
    wanted, found = torch.log_softmax(expected, axis), torch.log_softmax(scores, axis)
    probability = wanted.exp()
    return torch.where(probability > 0, probability * (wanted - found), 0.0).sum(axis)


def smoothing_term(scores: Tensor, axis: int) -> Tensor:
    """Return the mean of ``-log p`` over classes at each position, without classes whose score is -inf."""
    logs = torch.log_softmax(scores, axis)
    possible = scores != -torch.inf
    return -torch.where(possible, logs, 0.0).sum(axis) / possible.sum(axis).clamp_min(1)
