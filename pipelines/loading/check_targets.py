"""Check each batch that is read later than a task's first samples: its inputs, and that its targets fit the model."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from paretta.pipelines.bench import seeded
from paretta.pipelines.data.trees import TensorTree, call_model, tree_rows
from paretta.pipelines.loading.check_data import first_not_finite, first_wrong, require_sound
from paretta.pipelines.losses.class_scores import CLASS_TYPES, counted, possible_axes
from paretta.pipelines.task import Task
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.faults import blaming


def require_sound_batch(task: Task, inputs: TensorTree, targets: TensorTree, places: Sequence[int], name: str) -> None:
    """Raise `WrongInput` for the first sample of a batch that cannot be trained on or judged.

    Its inputs must be as those of `require_sound`, its class labels must be ones that the model answers, and a target
    that is not finite must be one that the loss leaves out.

    Args:
        task: with the model, from whose answer to the example input the number of classes follows.
        inputs: a tree of [n, ...].
        targets: a tree of [n, ...].
        places: indices of the samples in their split, [n].
        name: of the split, such as ``task.train``.
    """
    require_sound(task, inputs, targets, places, name)
    labels = task.labels_of(targets)
    if labels is None:
        return
    if labels.dtype in CLASS_TYPES:
        shape = [len(labels), *_scores_shape(task)[1:]]
        axis = _class_axis(task, shape, labels)
        if axis is not None and (problem := label_problem(task, shape, labels, axis=axis)) is not None:
            first, rule, found = problem
            raise WrongInput(Problem(f"{name}[{places[first]}]", rule, found, LABEL_HINT))
    elif labels.dim() and (odd := first_not_finite(labels)) is not None:
        place = f"{name}[{places[odd]}]"
        row = torch.tensor([odd])
        if not _is_left_out(task, tree_rows(inputs, row), tree_rows(targets, row), place):
            rule = "its target is not finite, and neither is its loss"
            raise WrongInput(Problem(place, rule, hint="clean the data, or leave such places out in the loss"))


LABEL_HINT = "relabel the classes, widen the model's last layer, or name a label to leave out as `ignore_label`"


def label_problem(task: Task, shape: Sequence[int], labels: Tensor, *, axis: int) -> tuple[int, str, list[int]] | None:
    """Return the first row of `labels` [n, ...] with one that has no class score: row, rule and labels; None if none.

    Args:
        task: may say which label to ignore.
        shape: of the class scores, [any, ...].
        labels: of `CLASS_TYPES`.
        axis: of the class scores that holds the classes.
    """
    mask = counted(task, labels)
    counts = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask
    wrong = first_wrong(counts & ((labels < 0) | (labels >= shape[axis])))
    if wrong is None:
        return None
    rule = f"class labels must be 0..{shape[axis] - 1}, one for each of the model's outputs"
    return wrong, rule, sorted(set(labels[wrong][counts[wrong]].flatten().tolist()))[-8:]


def _class_axis(task: Task, shape: Sequence[int], labels: Tensor) -> int | None:
    """Return the axis of the classes; None if the labels are not those of classes, or the axis is not told."""
    possible = possible_axes(shape, labels)
    stated = None if task.class_axis is None else task.class_axis % len(shape)
    axis = stated if stated is not None else possible[0] if len(possible) == 1 else None
    return axis if axis in possible and axis is not None and shape[axis] > 1 else None


@torch.no_grad()
def _is_left_out(task: Task, inputs: TensorTree, targets: TensorTree, place: str) -> bool:
    """Return whether the loss of a sample whose target is not finite is finite."""
    with seeded(0), blaming(place, "the loss of it"):
        loss: object = task.loss(call_model(task.new_model().eval(), inputs), targets)
    return isinstance(loss, Tensor) and bool(torch.isfinite(loss).all())


@lru_cache(maxsize=1)
@torch.no_grad()
def _scores_shape(task: Task) -> tuple[int, ...]:
    """Return the shape of the untrained model's class scores for the example; cached for the last task."""
    with seeded(0):
        outputs = call_model(task.new_model().eval(), task.example_input)
        with blaming("task.class_scores", "finding the class scores in the outputs"):
            return tuple(task.scores_of(outputs).shape)
