"""Asymmetric integer grid, which uses all codes for the range even if zero is not in its middle."""

from typing import Literal

import torch
from torch import Tensor

from paretta.pipelines.grid import Grid
from paretta.pipelines.quantizers import Quantizer


def affine_grid(low: Tensor, high: Tensor, bits: int = 8, *, signed: bool = False) -> Grid:
    """Return the grid that covers ``[low, high]`` and represents 0.0 exactly.

    ``scale = (high - low) / (2**bits - 1)`` and ``zero_point = round(-low / scale)`` after widening the range to
    include zero; signed codes are lower by ``2**(bits-1)``. Source: Jacob et al., "Quantization and training of neural
    networks for integer-arithmetic-only inference", 2018, and ONNX QuantizeLinear.

    Args:
        low: the smallest value, a scalar or [channels].
        high: the largest.
        bits: 2 to 8.
        signed: codes ``-2**(bits-1) .. 2**(bits-1)-1`` instead of ``0 .. 2**bits-1``.

    >>> grid = affine_grid(torch.tensor(-1.0), torch.tensor(3.0))
    >>> int(grid.zero_point), grid.nearest(torch.tensor(0.0)).item()
    (64, 0.0)
    """
    top, shift = 2**bits - 1, 2 ** (bits - 1) if signed else 0
    low, high = low.float().clamp(max=0.0), high.float().clamp(min=0.0)
    scale = (high - low) / top
    # A tensor that is zero on all data keeps the step 1; a smaller step would overflow at the first non-zero value.
    scale = torch.where(scale > torch.finfo(torch.float32).tiny, scale, torch.ones_like(scale))
    zero_point = torch.round(-low / scale).clamp(0, top).to(torch.int32) - shift
    return Grid(scale, zero_point, -shift, top - shift, axis=None if low.dim() == 0 else 0)


class Affine(Quantizer):
    """Codes with a step and a non-zero zero point; weights have ``2**bits`` levels, one more than with `symmetric`."""

    kind: Literal["affine"] = "affine"
    signed: bool = True

    def fit(self, values: Tensor) -> Grid:
        """Return the grid."""
        return self.covered(values, lambda low, high: affine_grid(low, high, self.bits, signed=self.signed))
