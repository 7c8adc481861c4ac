"""Look through a task's splits for samples that no training could take, without any model."""

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from paretta.pipelines.samples import Samples, draw, num_samples, read_samples, take
from paretta.pipelines.task import Split, Task
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.faults import blaming

MAX_READ: Final = 24  # samples of a dataset that reads them one by one: the first, the last, and some at random
_BLOCK: Final = 2**24  # values of a tensor that are looked at at once


def split_problems(task: Task, split: Split, where: str) -> Iterator[Problem]:
    """Yield what is wrong with a split's form and with its samples: all of a tensor's, some of any other dataset's."""
    dataset = task.split(split)
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        mend = "give a dataset with __len__ and __getitem__"
        yield Problem(where, "must be a map-style dataset", type(dataset).__name__, mend)
        return
    with blaming(where, "asking for its length"):
        length = num_samples(dataset)
    if length == 0:
        yield Problem(where, "must hold at least one sample", 0, "check how the split is made")
    elif (tensors := tensors_of(dataset)) is not None:
        with blaming(where, "indexing its tensors"):
            problems = _pair_problems(tensors, where) or _whole_problems(tensors, task.example_input, where)
        yield from problems
    else:
        yield from _sample_problems(dataset, task.example_input, where)


def require_sound(inputs: Tensor, targets: Tensor, like: Tensor, places: Sequence[int], name: str) -> None:
    """Raise `WrongInput` naming the first sample of a batch that no model could take.

    Args:
        inputs: [n, ...].
        targets: [n, ...].
        like: one input, [1, ...].
        places: of the samples in their dataset, [n].
        name: the dataset's, for messages.
    """
    problem = _batch_problem(inputs, targets, like, name, places)
    if problem is not None:
        raise WrongInput(problem)


def first_not_finite(values: Tensor) -> int | None:
    """Return the place of the first of `values` [n, ...] that holds nan or inf; None where none does."""
    if not (values.is_floating_point() or values.is_complex()):
        return None
    rows = max(1, _BLOCK // max(1, values[:1].numel()))
    for start in range(0, len(values), rows):
        found = first_wrong(~torch.isfinite(values[start : start + rows]))
        if found is not None:
            return start + found
    return None


def first_wrong(wrong: Tensor) -> int | None:
    """Return the first place where any of `wrong` [n, ...] is True; None where none is."""
    rows = wrong.flatten(1).any(1) if wrong.dim() > 1 else wrong
    return int(rows.nonzero()[0]) if bool(rows.any()) else None


def tensors_of(dataset: Samples) -> tuple[Tensor, ...] | None:
    """Return a split's tensors, each with all its samples; None where it reads samples one by one."""
    if isinstance(dataset, TensorDataset):
        return dataset.tensors
    if isinstance(dataset, Subset) and (tensors := tensors_of(dataset.dataset)) is not None:
        return tuple(tensor[torch.as_tensor(dataset.indices)] for tensor in tensors)
    return None


def _whole_problems(tensors: tuple[Tensor, ...], like: Tensor, where: str) -> list[Problem]:
    inputs, targets = tensors
    problem = _batch_problem(inputs, targets, like, where)
    return [] if problem is None else [problem]


def _sample_problems(dataset: Samples, like: Tensor, where: str) -> Iterator[Problem]:
    length = num_samples(dataset)
    some = draw(dataset, MAX_READ - 2, seed=0).tolist()
    first: Tensor | None = None
    for place in dict.fromkeys([0, length - 1, *some]):
        name = f"{where}[{place}]"
        (sample,) = read_samples(dataset, [place], where)
        if problems := _pair_problems(sample, name):
            yield from problems
            return
        inputs, targets = take(dataset, torch.tensor([place]), where)
        problem = _kind_problem(inputs, targets, name) or _batch_problem(inputs, targets, like, where, [place])
        if problem is None and first is not None and (first.shape, first.dtype) != (targets.shape, targets.dtype):
            rule = f"targets must look alike, {_looks(first[0])} as that of {where}[0]"
            problem = Problem(name, rule, _looks(targets[0]))
        if problem is not None:
            yield problem
            return
        first = targets if first is None else first


def _pair_problems(sample: object, where: str) -> list[Problem]:
    if isinstance(sample, tuple | list) and len(sample) == 2:
        return []
    if isinstance(sample, dict):
        found = f"a dict of {', '.join(map(str, sample))}"
    else:
        found = (
            f"{type(sample).__name__} of {len(sample)}" if isinstance(sample, tuple | list) else type(sample).__name__
        )
    return [Problem(where, "a sample must be a pair (input, target)", found, "return (input, target)")]


def _kind_problem(inputs: object, targets: object, where: str) -> Problem | None:
    for part, value in (("input", inputs), ("target", targets)):
        if not isinstance(value, Tensor):
            inner = value[0] if isinstance(value, tuple | list) and value else value
            return Problem(where, f"its {part} must be a tensor or a number", type(inner).__name__, "convert it")
    return None


def _batch_problem(
    inputs: Tensor, targets: Tensor, like: Tensor, name: str, places: Sequence[int] | None = None
) -> Problem | None:
    if len(inputs) != len(targets):
        return Problem(name, "there must be as many inputs as targets", f"{len(inputs)} and {len(targets)}")
    if inputs.shape[1:] != like.shape[1:] or inputs.dtype != like.dtype:
        rule = f"inputs must look like example_input, {_looks(like[0])}"
        return Problem(f"{name}[{places[0] if places else 0}]", rule, _looks(inputs[0]))
    wrong = first_not_finite(inputs)
    if wrong is not None:
        return Problem(
            f"{name}[{places[wrong] if places else wrong}]", "inputs must be finite", "nan or inf", "clean the data"
        )
    return None


def _looks(value: Tensor) -> str:
    return f"{list(value.shape)} of {value.dtype}"
