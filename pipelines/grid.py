"""A grid: the integers a tensor may take and what they stand for."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Grid:
    """Evenly spaced values ``(code - zero_point) * scale`` for the integer codes ``low .. high``.

    Codes follow ONNX QuantizeLinear: ``clamp(round_half_even(x / scale) + zero_point, low, high)``.

    Args:
        scale: float32, the step between neighbours; a scalar, or [channels] where each channel has its own.
        zero_point: the code that stands for exactly 0.0; a scalar or [channels], of integer value.
        low: smallest code.
        high: largest code.
        axis: the dimension that `scale` runs along, or None for a scalar.

    >>> grid = Grid(torch.tensor(0.5), torch.tensor(0), -7, 7)
    >>> grid.codes(torch.tensor([-9.0, 0.0, 0.25, 0.75])).tolist()
    [-7, 0, 0, 2]
    >>> grid.nearest(torch.tensor([0.8, 99.0])).tolist()
    [1.0, 3.5]
    """

    scale: Tensor
    zero_point: Tensor
    low: int
    high: int
    axis: int | None = None

    def codes(self, values: Tensor) -> Tensor:
        """Return the integer code (int32) of the grid point nearest to each value, same shape as `values`."""
        steps = torch.round(values / self._spread(self.scale, values)) + self._spread(self.zero_point, values)
        return steps.clamp(self.low, self.high).to(torch.int32)

    def values(self, codes: Tensor) -> Tensor:
        """Return what the codes stand for, float32."""
        return (codes - self._spread(self.zero_point, codes)) * self._spread(self.scale, codes)

    def nearest(self, values: Tensor) -> Tensor:
        """Return the grid point nearest to each value, ``values(codes(x))``; 0.0 maps to 0.0."""
        return self.values(self.codes(values))

    def _spread(self, per_channel: Tensor, values: Tensor) -> Tensor:
        if self.axis is None:
            return per_channel
        shape = [1] * values.dim()
        shape[self.axis] = -1
        return per_channel.view(shape)
