"""What a pruned model must answer, worked out from values alone: its whole form with zeros where it no longer reads."""

from copy import deepcopy

import sequence_models
import torch
import vision_models
from torch import Tensor, nn

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, sequence_models.RootMeanSquareNorm, vision_models.ChannelsFirstNorm)
READERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@torch.no_grad()
def distinct(model: nn.Module) -> nn.Module:
    """Give every parameter values of which no two are equal, so that each can be found again after pruning."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        size = parameter.numel()
        spread = ((torch.randperm(size, generator=generator) + 0.5) / size - 0.5).view(parameter.shape)
        if parameter.dim() > 1:
            parameter.copy_(3 * spread / max(parameter[0].numel(), 1) ** 0.5)
        else:
            parameter.copy_(spread if name.endswith("bias") else 1 + spread)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.5, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model


@torch.no_grad()
def masked(whole: nn.Module, pruned: nn.Module) -> nn.Module:
    """Return `whole` with zeros for the inputs that the layers of `pruned` have lost, and norms over what it kept."""
    whole = deepcopy(whole)
    for name, module in whole.named_modules():
        part = pruned.get_submodule(name)
        if isinstance(module, READERS):
            axis = int(isinstance(module, nn.ConvTranspose2d))
            _forget(module.weight, part.weight, axis)
        elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
            for key, weight in module.named_parameters():
                if key.startswith("weight_ih"):
                    _forget(weight, part.get_parameter(key), 0)
        elif isinstance(module, NORMS):
            kept = torch.isin(module.weight, part.weight).nonzero().flatten()
            axis = 1 if isinstance(module, nn.GroupNorm | vision_models.ChannelsFirstNorm) else -1
            module.register_forward_hook(_over(part, kept, axis))
    return whole


def _forget(weight: Tensor, part: Tensor, axis: int) -> None:
    """Zero the values of `weight` that `part` has not, in the rows along `axis` of which it has some."""
    rows, left = weight.transpose(0, axis), torch.isin(weight, part).transpose(0, axis)
    stays = left.flatten(1).any(1)
    rows[stays] = rows[stays].where(left[stays], 0.0)


def _over(part: nn.Module, kept: Tensor, axis: int) -> object:
    def hook(_: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        return torch.zeros_like(output).index_copy(axis % output.dim(), kept, part(args[0].index_select(axis, kept)))

    return hook
