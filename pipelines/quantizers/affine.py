"""Asymmetric unsigned integer grid for a whole tensor, for activations."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pipelines.grid import Grid

RangeRule = Literal["minmax", "percentile", "mse"]

_CLIPS = torch.linspace(1.0, 0.2, 33)


def affine_grid(low: Tensor, high: Tensor, bits: int = 8) -> Grid:
    """Return the grid of unsigned codes that covers ``[low, high]`` and represents 0.0 exactly.

    ``scale = (high - low) / (2**bits - 1)`` and ``zero_point = round(-low / scale)`` after widening the range to hold
    zero. Source: Jacob et al., "Quantization and training of neural networks for integer-arithmetic-only inference",
    2018, and ONNX QuantizeLinear.

    >>> grid = affine_grid(torch.tensor(-1.0), torch.tensor(3.0))
    >>> int(grid.zero_point), grid.nearest(torch.tensor(0.0)).item()
    (64, 0.0)
    """
    top = 2**bits - 1
    low, high = low.float().clamp(max=0.0), high.float().clamp(min=0.0)
    scale = (high - low) / top
    # A tensor that was zero on all of the data keeps the step 1; a smaller one would overflow at the first other value.
    scale = torch.where(scale > torch.finfo(torch.float32).tiny, scale, torch.ones_like(scale))
    zero_point = torch.round(-low / scale).clamp(0, top).to(torch.int32)
    return Grid(scale, zero_point, 0, top)


def percentile_range(values: Tensor, percentile: float) -> tuple[Tensor, Tensor]:
    """Return the range that leaves out ``100 - percentile`` per cent of the values, half at each end.

    >>> low, high = percentile_range(torch.arange(101.0), 98.0)
    >>> low.item(), high.item()
    (1.0, 99.0)
    """
    ordered = values.flatten().float().sort().values
    tail = round((100.0 - percentile) / 200.0 * (ordered.numel() - 1))
    return ordered[tail], ordered[ordered.numel() - 1 - tail]


def mse_range(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return the range, among 33 shrunken min/max ranges, whose grid leaves the least squared error on `values`."""
    low, high = values.min(), values.max()
    errors = [(affine_grid(low * c, high * c, bits).nearest(values) - values).square().sum() for c in _CLIPS.tolist()]
    clip = _CLIPS[int(torch.stack(errors).argmin())].item()
    return low * clip, high * clip


class Affine(BaseModel):
    """Codes ``0 .. 2**bits-1`` with one step and one zero point for the whole tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["affine"] = "affine"
    bits: int = Field(default=8, ge=2, le=8)
    range: RangeRule = "mse"
    percentile: float = Field(default=99.99, gt=50.0, le=100.0)

    def fit(self, values: Tensor) -> Grid:
        """Return the grid for sample activations `values` of any shape."""
        values = values.detach().float()
        match self.range:
            case "minmax":
                low, high = values.min(), values.max()
            case "percentile":
                low, high = percentile_range(values, self.percentile)
            case "mse":
                low, high = mse_range(values, self.bits)
        return affine_grid(low, high, self.bits)
