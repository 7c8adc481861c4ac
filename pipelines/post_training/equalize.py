"""Move scales between layers so that what is quantised has channels of similar size, without changing the function."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from paretta.pipelines.data.trees import TensorTree, call_model
from paretta.pipelines.model.masks import Mask
from paretta.pipelines.model.weights import stored_parameter
from paretta.pipelines.post_training.scale_sites import ScaleSite

_ROUNDS = 20
_FURTHEST = 20  # scales are 2**-20 to 2**20


def equalized(model: nn.Module, sites: Sequence[ScaleSite]) -> list[ScaleSite]:
    """Equalise the ranges of weights across layers in place, and return the sites where scales moved.

    Channel i of a layer is divided by ``s_i = sqrt(r1_i / r2_i)`` and multiplied by it in the layers that read it, with
    r1 and r2 the largest weights of the channel on both sides; pairs are visited until none changes. Source: Nagel et
    al., "Data-free quantization through weight equalization and bias correction", 2019, section 4.1. Scales are rounded
    to powers of two, so that the function in floats stays the same to the last bit.
    """
    moved: dict[ScaleSite, None] = {}
    free = [site for site in sites if _is_layer(model, site.source) and _is_free(model, site)]
    for _ in range(_ROUNDS):
        changed = False
        for site in free:
            rows = weight_of(model, site.source).detach().flatten(1).abs().amax(1)
            scale = power_of_two(torch.sqrt(rows / read_range(model, site, len(rows))))
            if bool((scale != 1).any()):
                move_scale(model, site, scale)
                moved[site], changed = None, True
        if not changed:
            break
    return list(moved)


def smoothed(
    model: nn.Module, sites: Sequence[ScaleSite], inputs: Sequence[TensorTree], strength: float
) -> list[ScaleSite]:
    """Move part of the range of activations into the weights that read them, in place; return the sites that changed.

    Channel j of what linear layers read is divided by ``s_j = max|X_j|^a / max|W_j|^(1 - a)`` in the norm or layer that
    makes it, and their columns are multiplied by it. Source: Xiao et al., "SmoothQuant: accurate and efficient
    post-training quantization for large language models", 2023. Scales are divided by their geometric mean, which a
    single grid for all channels does not notice, and rounded to powers of two, so that the function in floats stays the
    same to the last bit.

    Args:
        model: in evaluation mode.
        sites: see `scale_sites`; those whose readers are linear layers are used.
        inputs: calibration inputs in batches.
        strength: a, 0 to 1; the larger, the more of the range goes to the weights.
    """
    chosen = [
        site
        for site in sites
        if _is_free(model, site) and all(isinstance(model.get_submodule(name), nn.Linear) for name in site.readers)
    ]
    largest = _largest_inputs(model, [site.readers[0] for site in chosen], inputs)
    moved = []
    for site in chosen:
        width = len(scaled_parameter(model, site))
        seen = largest[site.readers[0]].view(width, -1).amax(1)
        scale = seen**strength / read_range(model, site, width) ** (1 - strength)
        usable = torch.isfinite(scale) & (scale > 0)
        centre = torch.log2(scale[usable]).mean() if bool(usable.any()) else torch.zeros(())
        scale = power_of_two(scale / torch.exp2(centre))
        if bool((scale != 1).any()):
            move_scale(model, site, scale)
            moved.append(site)
    return moved


def power_of_two(scale: Tensor) -> Tensor:
    """Return the nearest powers of two, and 1 where a scale is zero or not finite.

    >>> power_of_two(torch.tensor([3.0, 0.3, 0.0, torch.inf])).tolist()
    [4.0, 0.25, 1.0, 1.0]
    """
    usable = torch.isfinite(scale) & (scale > 0)
    exponent = torch.log2(torch.where(usable, scale, 1.0)).round().clamp(-_FURTHEST, _FURTHEST)
    return torch.exp2(exponent)


def weight_of(model: nn.Module, name: str) -> Tensor:
    """Return the weight of a layer as it computes with it."""
    return cast(Tensor, model.get_submodule(name).weight)


def read_range(model: nn.Module, site: ScaleSite, width: int) -> Tensor:
    """Return for each of `width` channels the largest weight among all readers that multiplies it, [width]."""
    return torch.stack([_columns(model, name, width).abs().amax((1, 3)).view(-1) for name in site.readers]).amax(0)


@torch.no_grad()
def move_scale(model: nn.Module, site: ScaleSite, scale: Tensor) -> None:
    """Divide the channels of the source by `scale` [channels] and multiply the columns of its readers by it."""
    source = model.get_submodule(site.source)
    weight: Tensor = scaled_parameter(model, site)
    weight /= scale.view(-1, *[1] * (weight.dim() - 1))
    bias = None if site.parameter else getattr(source, "bias", None)
    if bias is not None:
        bias /= scale
    for name in site.readers:
        layer = model.get_submodule(name)
        columns = _grouped_columns(stored_parameter(layer), layer, len(scale))
        columns *= scale.view(len(columns), 1, -1, 1)


def scaled_parameter(model: nn.Module, site: ScaleSite) -> nn.Parameter:
    """Return the parameter of the source whose first dimension is the channels."""
    source = model.get_submodule(site.source)
    return source.get_parameter(site.parameter) if site.parameter else stored_parameter(source)


def _columns(model: nn.Module, name: str, width: int) -> Tensor:
    return _grouped_columns(weight_of(model, name).detach(), model.get_submodule(name), width)


def _grouped_columns(weight: Tensor, layer: nn.Module, width: int) -> Tensor:
    """Return a view of a weight, [groups, out / groups, channels / groups, values of a channel]."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return weight.view(groups, len(weight) // groups, width // groups, -1)


def _is_layer(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name), nn.Conv2d | nn.Linear)


def _is_free(model: nn.Module, site: ScaleSite) -> bool:
    """Return True if the weights can be scaled: they are plain, or masked."""
    for name in (site.source, *site.readers):
        module = model.get_submodule(name)
        if parametrize.is_parametrized(module) and not (
            set(cast(nn.ModuleDict, module.parametrizations)) == {"weight"}
            and all(isinstance(step, Mask) for step in cast(nn.ModuleList, module.parametrizations["weight"]))  # type: ignore[index]
        ):
            return False
    return True


def _largest_inputs(model: nn.Module, names: Sequence[str], inputs: Sequence[TensorTree]) -> dict[str, Tensor]:
    """Return the largest absolute value of each input feature of linear layers, [in]."""
    largest: dict[str, Tensor] = {}

    def watch(name: str, values: Tensor) -> None:
        found = values.detach().abs().flatten(0, -2).amax(0)
        largest[name] = torch.maximum(largest[name], found) if name in largest else found

    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda _, given, name=name: watch(name, given[0]))
        for name in names
    ]
    try:
        with torch.no_grad():
            for batch in inputs:
                call_model(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return largest
