"""The weights of a model by name: of convolutions, linear layers and the projections inside attention."""

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
    """One weight and where it lives.

    Args:
        name: the layer's name, such as ``conv1``; for attention with the projection's, such as ``attention.in_proj``.
        module: owns it.
        attribute: what the module calls it.
    """

    name: str
    module: nn.Module
    attribute: str

    @property
    def values(self) -> Tensor:
        """The weight as the module computes with it, [out, in, ...]."""
        return cast(Tensor, getattr(self.module, self.attribute))

    @property
    def stored(self) -> nn.Parameter:
        """The parameter behind it, which training changes."""
        return stored_parameter(self.module, self.attribute)


def stored_parameter(module: nn.Module, attribute: str = "weight") -> nn.Parameter:
    """Return the parameter behind a tensor of `module`, whatever parametrizes it."""
    held = parametrize.is_parametrized(module, attribute)
    return module.get_parameter(f"parametrizations.{attribute}.original" if held else attribute)


def weight_learns(layer: nn.Module) -> bool:
    """Say whether training changes `layer.weight`, through whatever parametrizes it."""
    if not parametrize.is_parametrized(layer, "weight"):
        return layer.get_parameter("weight").requires_grad
    chain = layer.get_submodule("parametrizations.weight")
    return any(parameter.requires_grad for parameter in chain.parameters())


def weights_of(model: nn.Module) -> Iterator[Weight]:
    """Yield the weight of every convolution, linear layer and nn.MultiheadAttention, each parameter once.

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
    """Name the weights whose parameter another module uses too."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            owners.setdefault(id(parameter), []).append(f"{name}.{key}")
    return {weight.name for weight in weights_of(model) if len(owners.get(id(weight.stored), [])) > 1}


def fold_weight_norm(model: nn.Module) -> nn.Module:
    """Store the weights that torch's weight norm computes in place of their direction and length, and return the model.

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
    """Return what a parameter was called before masks or quantisers were put on it.

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
