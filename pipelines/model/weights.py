"""The weights of a model by name: of convolutions, linear layers and attention projections."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _WeightNorm

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """One weight and its location.

    Args:
        name: the layer's name, such as ``conv1``; for attention with the projection's, such as ``attention.in_proj``.
        module: the module that owns it.
        attribute: its name in the module.
    """

    name: str
    module: nn.Module
    attribute: str

    @property
    def values(self) -> Tensor:
        """The weight as the module uses it, [out, in, ...]."""
        return cast(Tensor, getattr(self.module, self.attribute))

    @property
    def stored(self) -> nn.Parameter:
        """The underlying parameter, which training changes."""
        return stored_parameter(self.module, self.attribute)


def stored_parameter(module: nn.Module, attribute: str = "weight") -> nn.Parameter:
    """Return the parameter behind a tensor of `module`, below all parametrizations."""
    held = parametrize.is_parametrized(module, attribute)
    return module.get_parameter(f"parametrizations.{attribute}.original" if held else attribute)


def weight_learns(layer: nn.Module) -> bool:
    """Return True if training changes `layer.weight`, directly or through a parametrization."""
    if not parametrize.is_parametrized(layer, "weight"):
        return layer.get_parameter("weight").requires_grad
    chain = layer.get_submodule("parametrizations.weight")
    return any(parameter.requires_grad for parameter in chain.parameters())


def weights_of(model: nn.Module) -> Iterator[Weight]:
    """Yield the weights of all convolutions, linear layers and nn.MultiheadAttention modules, each parameter once.

    >>> [weight.name for weight in weights_of(nn.TransformerEncoderLayer(8, 2, 16))]
    ['self_attn.in_proj', 'self_attn.out_proj', 'linear1', 'linear2']
    """
    seen: set[int] = set()
    for name, module in model.named_modules():
        for weight in _own(name, module):
            if id(weight.stored) not in seen:
                seen.add(id(weight.stored))
                yield weight


def shared_weights(model: nn.Module) -> set[str]:
    """Return the names of weights whose parameter is shared with another module."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(id(parameter), []).append(f"{name}.{key}")
    return {weight.name for weight in weights_of(model) if len(owners.get(id(weight.stored), [])) > 1}


def fold_weight_norm(model: nn.Module) -> nn.Module:
    """Replace torch's weight norms by the weights that they compute, and return the model.

    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))
    >>> sorted(dict(fold_weight_norm(layer).named_parameters()))
    ['bias', 'weight']
    """
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            chain = cast(nn.ModuleList, cast(nn.ModuleDict, module.parametrizations)["weight"])
            if all(isinstance(step, _WeightNorm) for step in chain):
                parametrize.remove_parametrizations(module, "weight")
    return model


def plain_name(name: str) -> str:
    """Return the name that a parameter had before masks or quantisers were attached.

    >>> plain_name("conv1.parametrizations.weight.original")
    'conv1.weight'
    """
    return name.replace("parametrizations.", "").removesuffix(".original") if "parametrizations." in name else name


def _own(name: str, module: nn.Module) -> Iterator[Weight]:
    if isinstance(module, LAYERS):
        yield Weight(name, module, "weight")
    if isinstance(module, nn.MultiheadAttention):
        for attribute in _PROJECTIONS:
            if getattr(module, attribute, None) is not None:
                yield Weight(f"{name}.{attribute.removesuffix('_weight')}".lstrip("."), module, attribute)
