"""Symmetric integer grid with zero point 0, for which integer kernels are fastest."""

from typing import Literal

import torch
from torch import Tensor

from paretta.pipelines.grid import Grid
from paretta.pipelines.quantizers import Quantizer


def symmetric_grid(low: Tensor, high: Tensor, bits: int) -> Grid:
    """Return the grid of codes ``-q .. q`` with ``q = 2**(bits-1) - 1`` and ``scale = max(-low, high) / q``.

    >>> grid = symmetric_grid(torch.tensor([-1.0, 0.0]), torch.tensor([0.5, 0.0]), 2)
    >>> grid.scale.tolist(), grid.nearest(torch.tensor([[-0.9], [0.3]])).tolist()
    ([1.0, 1.0], [[-1.0], [0.0]])
    """
    limit = 2 ** (bits - 1) - 1
    peak = torch.maximum(-low, high)
    scale = (peak / limit).clamp_min(torch.finfo(torch.float32).tiny)
    scale = torch.where(peak > 0, scale, torch.ones_like(peak))
    return Grid(scale, torch.zeros_like(scale, dtype=torch.int32), -limit, limit, axis=0)


class Symmetric(Quantizer):
    """Codes ``-(2**(bits-1)-1) .. 2**(bits-1)-1`` with zero point 0."""

    kind: Literal["symmetric"] = "symmetric"

    def fit(self, values: Tensor) -> Grid:
        """Return the grid."""
        return self.covered(values, lambda low, high: symmetric_grid(low, high, self.bits))
