"""Fixed point: a symmetric grid whose steps are powers of two, so that rescaling is a bit shift."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from paretta.pipelines.grid import Grid
from paretta.pipelines.quantizers import Quantizer
from paretta.pipelines.quantizers.symmetric import symmetric_grid


def fixed_point_grid(low: Tensor, high: Tensor, bits: int) -> Grid:
    """Return the symmetric grid with its step rounded up to a power of two, ``2**ceil(log2(max(-low, high) / q))``.

    Source: Jacob et al., 2018, and TensorRT's and DSPs' shift-only arithmetic; learned as in Jain et al., "Trained
    quantization thresholds for accurate and efficient fixed-point inference of deep neural networks", 2020.

    >>> fixed_point_grid(torch.tensor([-3.0]), torch.tensor([0.0]), 2).scale.tolist()
    [4.0]
    """
    grid = symmetric_grid(low, high, bits)
    return replace(grid, scale=torch.exp2(torch.log2(grid.scale).ceil()), dyadic=True)


class PowerOfTwo(Quantizer):
    """Codes of `symmetric` in steps of ``2**k``. Faster than `symmetric` only on shift-only hardware."""

    kind: Literal["power_of_two"] = "power_of_two"

    def fit(self, values: Tensor) -> Grid:
        """Return the grid."""
        return self.covered(values, lambda low, high: fixed_point_grid(low, high, self.bits))
