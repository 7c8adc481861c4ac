"""Trees of tensors: the form of a model's inputs and outputs.

A tree is a tensor, or a mapping, tuple, list or dataclass of trees. Any other value in it, such as None or a number, is
kept unchanged.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from inspect import Parameter, signature
from typing import Any, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn

TensorTree: TypeAlias = Any
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """Inputs of a model that takes both positional and keyword arguments: ``model(*args, **kwargs)``."""

    args: tuple[TensorTree, ...] = ()
    kwargs: Mapping[str, TensorTree] = field(default_factory=dict)


def as_inputs(inputs: TensorTree) -> ModelInputs:
    """Return `inputs` as arguments: a mapping as keywords, a tuple or list as positional, anything else as one.

    >>> as_inputs({"ids": 1, "mask": 2}).kwargs
    {'ids': 1, 'mask': 2}
    >>> as_inputs(3).args
    (3,)
    """
    if isinstance(inputs, ModelInputs):
        return inputs
    if isinstance(inputs, Mapping):
        return ModelInputs((), inputs)
    return ModelInputs(tuple(inputs)) if isinstance(inputs, tuple | list) else ModelInputs((inputs,))


def call_model(model: Callable[..., _T], inputs: TensorTree) -> _T:
    """Call a model with a tree of inputs, see `as_inputs`."""
    call = as_inputs(inputs)
    return model(*call.args, **call.kwargs)


def leaves(tree: TensorTree, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Yield every tensor of a tree in order, with its path: the keys, positions or field names that lead to it.

    >>> [place for place, _ in leaves({"a": torch.zeros(1), "b": (torch.zeros(1), None)})]
    [('a',), ('b', '0')]
    """
    if isinstance(tree, Tensor):
        yield place, tree
    else:
        for key, value in _items(tree):
            yield from leaves(value, (*place, key))


def tensors(tree: TensorTree) -> list[Tensor]:
    """Return the tensors of a tree, in order."""
    return [tensor for _, tensor in leaves(tree)]


def mapped(function: Callable[[Tensor], object], tree: TensorTree) -> TensorTree:
    """Return a tree of the same structure with `function` applied to each tensor, in order.

    >>> mapped(lambda tensor: tensor + 1, {"a": [torch.zeros(1)]})
    {'a': [tensor([1.])]}
    """
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        made = {key: mapped(function, value) for key, value in tree.items()}
        return made if type(tree) is dict else cast(Any, type(tree))(**made)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(mapped(function, value) for value in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(mapped(function, value) for value in tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{key: mapped(function, value) for key, value in _items(tree)})
    return tree


def moved(tree: TensorTree, device: torch.device | str) -> TensorTree:
    """Return the tree with every tensor on `device`."""
    return mapped(lambda tensor: tensor.to(device), tree)


def tree_rows(tree: TensorTree, index: slice | Tensor) -> TensorTree:
    """Return the tree with only some rows of every tensor [n, ...]; scalar tensors are unchanged."""
    return mapped(lambda tensor: tensor[index] if tensor.dim() else tensor, tree)


def num_rows(tree: TensorTree) -> int:
    """Return n, the length of the first axis of the first tensor that has one."""
    return next((len(tensor) for tensor in tensors(tree) if tensor.dim()), 0)


def joined(parts: Sequence[TensorTree]) -> TensorTree:
    """Return one tree, its tensors concatenated from those of `parts`, which all have the same structure."""
    columns = [iter(column) for column in zip(*(tensors(part) for part in parts), strict=True)]
    following = iter(columns)
    return mapped(lambda tensor: torch.cat(list(next(following))) if tensor.dim() else tensor, parts[0])


def input_names(model: nn.Module, inputs: TensorTree) -> list[str]:
    """Return a name for each tensor of `inputs`: the model's parameter for it, then keys and positions within it.

    A single input is called ``input``. These are the names of the delivered file's inputs.
    """
    if isinstance(inputs, Tensor):
        return ["input"]
    call = as_inputs(inputs)
    ordered = _positional_names(model, len(call.args))
    named = [*zip(ordered, call.args, strict=True), *call.kwargs.items()]
    return [".".join((name, *place)) for name, value in named for place, _ in leaves(value)]


def output_names(outputs: TensorTree) -> list[str]:
    """Return a name for each tensor of a model's outputs, built from keys, field names and positions.

    A single tensor is called ``output``; tensors of a tuple or list are called ``output_0``, ``output_1`` and so on.

    >>> output_names({"logits": torch.zeros(1), "states": (torch.zeros(1),)})
    ['logits', 'states.0']
    """
    if isinstance(outputs, Tensor):
        return ["output"]
    return [f"output_{'.'.join(place)}" if place[0].isdigit() else ".".join(place) for place, _ in leaves(outputs)]


class FlatModel(nn.Module):
    """Wraps a model so that it takes and returns flat lists of tensors."""

    def __init__(self, model: nn.Module, inputs: TensorTree) -> None:
        """Wrap `model`, whose inputs have the structure of `inputs`."""
        super().__init__()
        self.model, self.inputs = model, inputs
        self.eval()

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of the model's outputs, in order."""
        following = iter(leaves)
        return tuple(tensors(call_model(self.model, mapped(lambda _: next(following), self.inputs))))


def _positional_names(model: nn.Module, count: int) -> list[str]:
    known = [
        name
        for name, parameter in signature(model.forward).parameters.items()
        if parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    return [*known[:count], *(f"input_{place}" for place in range(len(known), count))][:count]


def _items(tree: TensorTree) -> Iterator[tuple[str, TensorTree]]:
    if isinstance(tree, Mapping):
        yield from ((str(key), value) for key, value in tree.items())
    elif isinstance(tree, ModelInputs):
        yield from (("args", tree.args), ("kwargs", tree.kwargs))
    elif isinstance(tree, tuple | list):
        yield from ((str(place), value) for place, value in enumerate(tree))
    elif is_dataclass(tree) and not isinstance(tree, type):
        yield from ((item.name, getattr(tree, item.name)) for item in fields(tree))
