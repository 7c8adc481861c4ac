"""Masks that keep weights at zero: made from scores and kept by the layer in all later stages."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Mask(nn.Module):
    """Parametrization ``w * keep``: masked weights stay zero and get no gradient, whatever the optimiser does.

    It commutes with quantisers that map zero to zero, so it may come before or after them.

    Args:
        keep: bool, the shape of the weight.
    """

    keep: Tensor

    def __init__(self, keep: Tensor) -> None:
        super().__init__()
        self.register_buffer("keep", keep.detach().clone())

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with its masked entries at exactly zero."""
        return torch.where(self.keep, weight, 0.0)


def mask_of(module: nn.Module, attribute: str = "weight") -> Mask | None:
    """Return the mask on a module's weight, if there is one."""
    if not parametrize.is_parametrized(module, attribute):
        return None
    chain = cast(nn.ModuleList, cast(nn.ModuleDict, module.parametrizations)[attribute])
    return next((step for step in chain if isinstance(step, Mask)), None)


@torch.no_grad()
def attach_mask(module: nn.Module, keep: Tensor, attribute: str = "weight") -> None:
    """Attach a mask that holds the weights at zero where `keep` is False; weights masked before stay masked."""
    current = mask_of(module, attribute)
    if current is None:
        parametrize.register_parametrization(module, attribute, Mask(keep))
    else:
        current.keep &= keep


def sparsest(scores: Tensor, sparsity: float) -> Tensor:
    """Return the mask [same shape] that drops the share `sparsity` of lowest scores, and keeps at least one.

    >>> sparsest(torch.tensor([3.0, 1.0, 2.0, 4.0]), 0.5).tolist()
    [True, False, False, True]
    """
    keep = torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    keep[torch.argsort(scores.flatten(), stable=True)[: num_dropped(scores.numel(), sparsity)]] = False
    return keep.view_as(scores)


def sparsest_of_all(scores: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """Return masks that drop the share `sparsity` of lowest scores over all tensors; each keeps its best weight.

    >>> [mask.tolist() for mask in sparsest_of_all([torch.tensor([1.0, 2.0]), torch.tensor([8.0, 9.0])], 0.5)]
    [[False, True], [True, True]]
    """
    sizes = [part.numel() for part in scores]
    together = sparsest(torch.cat([part.flatten() for part in scores]), sparsity)
    masks = [part.view_as(score) for part, score in zip(torch.split(together, sizes), scores, strict=True)]
    return [
        mask | (score == score.max()) if not mask.any() else mask for mask, score in zip(masks, scores, strict=True)
    ]


def n_of_m(scores: Tensor, n: int, m: int) -> Tensor:
    """Return the mask that keeps the `n` highest of every `m` neighbours along the input channels, axis 1.

    Sparse tensor cores require the pattern along this axis (Mishra et al., 2021, "Accelerating sparse deep neural
    networks"). The length of axis 1 must be a multiple of `m`.

    >>> n_of_m(torch.tensor([[1.0, 4.0, 3.0, 2.0]]), 2, 4).tolist()
    [[False, True, True, False]]
    """
    last = scores.movedim(1, -1)
    groups = last.reshape(*last.shape[:-1], -1, m)
    keep = torch.zeros_like(groups, dtype=torch.bool)
    keep.scatter_(-1, torch.argsort(groups, dim=-1, descending=True, stable=True)[..., :n], True)
    return keep.flatten(-2).movedim(-1, 1)


def num_dropped(size: int, share: float) -> int:
    """Round ``size * share`` down; a tolerance makes 0.29 of 100 give 29, although the float product is below it."""
    return min(int(size * share + 1e-6), size - 1)
