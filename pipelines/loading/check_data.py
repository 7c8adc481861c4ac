"""Check a task's splits, without a model, for samples that cannot be trained on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from paretta.pipelines.data.samples import (
    Samples,
    as_plain_sample,
    draw,
    is_plain_subset,
    is_plain_tensors,
    num_samples,
    read_samples,
    take,
)
from paretta.pipelines.data.trees import TensorTree, as_inputs, leaves, tensors
from paretta.pipelines.task import Split, Task
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.faults import blaming

MAX_READ: Final = 24  # samples checked if a dataset reads them one by one: first, last, and random ones
_BLOCK: Final = 2**24  # values of a tensor that are checked at once


@runtime_checkable
class SelfChecking(Protocol):
    """A dataset that can look through all its samples faster than by reading them one by one."""

    def problems(self, where: str) -> Iterator[Problem]:
        """Yield what is wrong with its samples; `where` is the split's name, for messages."""
        ...


def split_problems(task: Task, split: Split, where: str) -> Iterator[Problem]:
    """Yield problems of a split's form and samples; tensors are checked completely, other datasets in part."""
    dataset = task.split(split)
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        yield Problem(where, "must be a map-style dataset", type(dataset).__name__, _as_map_style(dataset))
        return
    with blaming(where, "asking for its length"):
        length = num_samples(dataset)
    if length == 0:
        yield Problem(where, "must hold at least one sample", 0, "check how the split is made")
    elif task.collate is None and (stored := tensors_of(dataset)) is not None:
        with blaming(where, "indexing its tensors"):
            problems = _form_problems(task, stored, where)
            problems = problems or list(_whole_problems(task, stored, where))
        yield from problems
    else:
        found = list(_sample_problems(task, dataset, where))
        yield from found or _own_problems(dataset, where)


def _as_map_style(dataset: object) -> str:
    if isinstance(dataset, DataLoader):
        return "give the loader's parts: loader.dataset, and to the task collate=loader.collate_fn"
    if isinstance(dataset, Iterable):
        return "give list(dataset), or, of more than fits into memory, a few thousand samples and Task(stream=...)"
    return "give a dataset with __len__ and __getitem__"


def _own_problems(dataset: Samples, where: str) -> Iterator[Problem]:
    """Yield what a dataset that knows its whole content finds wrong, such as files that cannot be read."""
    if isinstance(dataset, SelfChecking):
        with blaming(where, "looking through it"):
            found = list(dataset.problems(where))
        yield from found


def require_sound(task: Task, inputs: TensorTree, targets: TensorTree, places: Sequence[int], name: str) -> None:
    """Raise `WrongInput` for the first invalid sample of a batch.

    Args:
        task: its example input defines the shape and dtype of inputs.
        inputs: a tree of [n, ...].
        targets: a tree of [n, ...].
        places: indices of the samples in their dataset, [n].
        name: the dataset's name, for messages.
    """
    problem = _batch_problem(task, inputs, targets, name, places)
    if problem is not None:
        raise WrongInput(problem)


def first_not_finite(values: Tensor) -> int | None:
    """Return the index of the first of `values` [n, ...] with nan or inf; None if all are finite."""
    if not (values.is_floating_point() or values.is_complex()):
        return None
    rows = max(1, _BLOCK // max(1, values[:1].numel()))
    for start in range(0, len(values), rows):
        found = first_wrong(~torch.isfinite(values[start : start + rows]))
        if found is not None:
            return start + found
    return None


def first_wrong(wrong: Tensor) -> int | None:
    """Return the first index at which any of `wrong` [n, ...] is True; None if there is none."""
    rows = wrong.flatten(1).any(1) if wrong.dim() > 1 else wrong
    return int(rows.nonzero()[0]) if bool(rows.any()) else None


def tensors_of(dataset: Samples) -> tuple[Tensor, ...] | None:
    """Return a split's tensors with all its samples; None if it reads samples one by one."""
    if is_plain_tensors(dataset):
        return dataset.tensors
    if is_plain_subset(dataset) and (tensors := tensors_of(dataset.dataset)) is not None:
        return tuple(tensor[torch.as_tensor(dataset.indices)] for tensor in tensors)
    return None


def _whole_problems(task: Task, stored: tuple[Tensor, ...], where: str) -> Iterator[Problem]:
    problem = _batch_problem(task, *task.parts(stored), where)
    if problem is not None:
        yield problem


def _sample_problems(task: Task, dataset: Samples, where: str) -> Iterator[Problem]:
    length = num_samples(dataset)
    some = draw(dataset, MAX_READ - 2, seed=0).tolist()
    first: Tensor | None = None
    for place in dict.fromkeys([0, length - 1, *some]):
        name = f"{where}[{place}]"
        (sample,) = read_samples(dataset, [place], where)
        if task.collate is None and (problems := _form_problems(task, as_plain_sample(sample), name)):
            yield from problems
            return
        batch = take(dataset, torch.tensor([place]), task.collate, name=where)
        if task.collate is not None and (problems := _form_problems(task, batch, f"{where} collated")):
            yield from problems
            return
        inputs, targets = task.parts(batch)
        problem = _kind_problem(task, inputs, targets, name) or _batch_problem(task, inputs, targets, where, [place])
        if problem is None and isinstance(targets, Tensor) and first is not None and task.collate is None:
            problem = _target_problem(first, targets, name, where)
        if problem is not None:
            yield problem
            return
        first = targets if first is None and isinstance(targets, Tensor) else first


def _target_problem(first: Tensor, targets: Tensor, name: str, where: str) -> Problem | None:
    if (first.shape, first.dtype) == (targets.shape, targets.dtype):
        return None
    return Problem(name, f"targets must look alike, {_looks(first[0])} as that of {where}[0]", _looks(targets[0]))


def _form_problems(task: Task, sample: object, where: str) -> list[Problem]:
    """Return what is wrong with the form of a sample or of a collated batch."""
    call = as_inputs(task.example_input)
    if isinstance(sample, Mapping) and call.kwargs and not call.args:
        wanted = [*call.kwargs, *task.training_inputs]
        if missing := [name for name in wanted if name not in sample]:
            rule = f"must have what the model is called with: {', '.join(wanted)}"
            found = f"without {', '.join(missing)}, but with {', '.join(map(str, sample))}"
            return [Problem(where, rule, found, "rename the entries, or name others in example_input")]
        return []
    if isinstance(sample, tuple | list) and len(sample) in (2, len(call.args) + 1):
        return []
    if isinstance(sample, Mapping):
        found = f"a dict of {', '.join(map(str, sample))}"
        hint = "return (input, target), or name the model's inputs: example_input={'name': ...}"
        return [Problem(where, "a sample must be a pair (input, target)", found, hint)]
    found = f"{type(sample).__name__} of {len(sample)}" if isinstance(sample, tuple | list) else type(sample).__name__
    return [Problem(where, "a sample must be a pair (input, target)", found, "return (input, target)")]


def _kind_problem(task: Task, inputs: object, targets: object, where: str) -> Problem | None:
    if not isinstance(task.example_input, Tensor):
        return None if tensors(inputs) else Problem(where, "its inputs must hold tensors", type(inputs).__name__)
    for part, value in (("input", inputs), ("target", targets)):
        if not (isinstance(value, Tensor) or (part == "target" and tensors(value))):
            inner = value[0] if isinstance(value, tuple | list) and value else value
            if isinstance(inner, Tensor):
                found, mend = f"{type(value).__name__} of Tensor", "give the tensor itself, as example_input does"
            else:
                found, mend = type(inner).__name__, "convert it"
            return Problem(where, f"its {part} must be a tensor or a number", found, mend)
    return None


def _batch_problem(
    task: Task, inputs: TensorTree, targets: TensorTree, name: str, places: Sequence[int] | None = None
) -> Problem | None:
    if isinstance(inputs, Tensor) and isinstance(targets, Tensor) and len(inputs) != len(targets):
        return Problem(name, "there must be as many inputs as targets", f"{len(inputs)} and {len(targets)}")
    like, given = dict(leaves(task.example_input)), dict(leaves(inputs))
    for leaf, expected in like.items():
        label = f" {'.'.join(leaf)}" if leaf else ""
        if leaf not in given:
            return Problem(name, f"there must be an input{label}, as in example_input", ", ".join(map(".".join, given)))
        tensor = given[leaf]
        if not _looks_like(task, tensor, expected):
            rule = f"inputs{label} must look like example_input, {_looks(expected[:1].squeeze(0))}"
            return Problem(f"{name}[{places[0] if places else 0}]", rule, _looks(tensor[:1].squeeze(0)))
        wrong = first_not_finite(tensor) if tensor.dim() else None
        if wrong is not None:
            place = places[wrong] if places else wrong
            return Problem(f"{name}[{place}]", f"inputs{label} must be finite", "nan or inf", "clean the data")
    return None


def _looks_like(task: Task, tensor: Tensor, expected: Tensor) -> bool:
    """Compare dtype and shape; the first axis and the task's free ones may have any length."""
    if tensor.dtype != expected.dtype or tensor.dim() != expected.dim():
        return False
    free = {
        0,
        *(axis for axes in task.free_axes.values() for axis in axes),
    }  # of any input; the export compares names
    sizes = enumerate(zip(tensor.shape, expected.shape, strict=True))
    return all(found == size for axis, (found, size) in sizes if axis not in free)


def _looks(value: Tensor) -> str:
    return f"{list(value.shape)} of {value.dtype}"
