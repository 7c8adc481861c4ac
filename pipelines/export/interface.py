"""The inputs and outputs of a delivered file: their names and free axes."""

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from paretta.pipelines.data.trees import TensorTree, input_names, mapped, tensors
from paretta.search_spaces.errors import Problem, WrongInput

# by input and axis: a name, or a name with the minimum and maximum length
FreeAxes: TypeAlias = Mapping[str, Mapping[int, str | tuple[str, int, int]]]


def exported_axes(
    model: nn.Module, inputs: TensorTree, free_axes: FreeAxes
) -> list[dict[int, torch.export.Dim] | None]:
    """Return for each tensor of `inputs` its free axes in the delivered file; the first axis is always free.

    Raises:
        WrongInput: `free_axes` names an input or axis that does not exist, or an axis shorter than 2 in `inputs`.
    """
    names = input_names(model, inputs)
    if unknown := sorted(set(free_axes) - set(names)):
        rule = f"the model has no input called {unknown[0]!r}; it has {', '.join(names)}"
        raise WrongInput(Problem("task.free_axes", rule, hint="name an input as the delivered file calls it"))
    dims = {"batch": torch.export.Dim("batch", min=1)}
    return [
        _axes(name, tensor, free_axes.get(name, {}), dims) if tensor.dim() else None
        for name, tensor in zip(names, tensors(inputs), strict=True)
    ]


def _axes(
    name: str, tensor: Tensor, free: Mapping[int, str | tuple[str, int, int]], dims: dict[str, torch.export.Dim]
) -> dict[int, torch.export.Dim]:
    found = {0: dims["batch"]}
    for axis, given in free.items():
        if not 0 < axis < tensor.dim():
            rule = f"{name} has the axes 0 to {tensor.dim() - 1}, and the first one is free anyway"
            raise WrongInput(Problem("task.free_axes", rule, axis))
        if tensor.shape[axis] < 2:
            rule = f"axis {axis} of {name} must be 2 or longer in example_input, or it is taken for a constant"
            raise WrongInput(Problem("task.free_axes", rule, tensor.shape[axis], "give a longer example_input"))
        label, *bounds = (given,) if isinstance(given, str) else given
        low, high = (int(bound) for bound in bounds) if bounds else (None, None)
        found[axis] = dims.setdefault(label, torch.export.Dim(label, min=low, max=high))
    return found


def doubled(inputs: TensorTree) -> TensorTree:
    """Return inputs with two equal samples, since the export would take a batch size of one for a constant."""
    return mapped(lambda one: one[:1].expand(2, *one.shape[1:]).contiguous() if one.dim() else one, inputs)


def shortened(model: nn.Module, inputs: TensorTree, free_axes: FreeAxes) -> TensorTree:
    """Return inputs whose free axes have about half their length, to test an export at a second length."""
    names = iter(input_names(model, inputs))

    def cut(tensor: Tensor) -> Tensor:
        for axis, given in free_axes.get(next(names), {}).items():
            least = 1 if isinstance(given, str) else given[1]
            half = max(tensor.shape[axis] // 2, least, 1)
            tensor = tensor.narrow(axis, 0, min(half, tensor.shape[axis]))  # an empty one stays so
        return tensor

    return mapped(cut, inputs)
