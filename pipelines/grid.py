"""A grid: the integer codes of a quantised tensor and the values they represent."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Grid:
    """Values ``(code - zero_point) * scale`` for the integer codes ``low .. high``, or for some of these codes.

    Codes follow ONNX QuantizeLinear: ``clamp(round_half_even(x / scale) + zero_point, low, high)``; with `levels`, the
    code is the level nearest to ``x / scale``.

    Args:
        scale: float32, the step between neighbouring values; a scalar, or [channels] if each channel has its own.
        zero_point: the code that represents exactly 0.0; a scalar or [channels], of integer value.
        low: smallest code.
        high: largest code.
        axis: the dimension of the tensor to which `scale` belongs, or None for a scalar.
        levels: int32 [k], the codes in use, ascending and including 0, with a zero point of 0; None for all codes.
        dyadic: whether every step is a power of two, and must remain one when it is learned.
        group: how many neighbours along the second of two dimensions share a step, with axis 0; scale and zero point
            are [channels, ceil(n / group)] then, the last group of n values may be shorter. None: no groups.

    >>> grid = Grid(torch.tensor(0.5), torch.tensor(0), -7, 7)
    >>> grid.codes(torch.tensor([-9.0, 0.0, 0.25, 0.75])).tolist()
    [-7, 0, 0, 2]
    >>> grid.nearest(torch.tensor([0.8, 99.0])).tolist()
    [1.0, 3.5]
    >>> Grid(torch.tensor([[1.0, 0.5]]), torch.zeros(1, 2), -7, 7, axis=0, group=2).codes(torch.ones(1, 3)).tolist()
    [[1, 1, 2]]
    """

    scale: Tensor
    zero_point: Tensor
    low: int
    high: int
    axis: int | None = None
    levels: Tensor | None = None
    dyadic: bool = False
    group: int | None = None

    def codes(self, values: Tensor) -> Tensor:
        """Return the integer code (int32) of the grid point nearest to each value, same shape as `values`."""
        steps = values / self.spread(self.scale, values)
        if self.levels is not None:
            return nearest_level(steps, self.levels)
        codes = torch.round(steps) + self.spread(self.zero_point, values)
        return codes.clamp(self.low, self.high).to(torch.int32)

    def values(self, codes: Tensor) -> Tensor:
        """Return the values that the codes represent, float32."""
        return (codes - self.spread(self.zero_point, codes)) * self.spread(self.scale, codes)

    def nearest(self, values: Tensor) -> Tensor:
        """Return the grid point nearest to each value, ``values(codes(x))``; 0.0 maps to 0.0."""
        return self.values(self.codes(values))

    def spread(self, per_channel: Tensor, values: Tensor) -> Tensor:
        """Return scale or zero point reshaped to broadcast along its axis of `values`."""
        if self.axis is None:
            return per_channel
        if self.group is not None:
            return per_channel.repeat_interleave(self.group, 1)[:, : values.shape[1]]
        shape = [1] * values.dim()
        shape[self.axis] = -1
        return per_channel.view(shape)


def nearest_level(steps: Tensor, levels: Tensor) -> Tensor:
    """Return the level (int32) nearest to each of `steps`; of two equally near ones, the lower.

    >>> nearest_level(torch.tensor([-0.4, 1.0, 9.0]), torch.tensor([-1, 0, 2], dtype=torch.int32)).tolist()
    [0, 0, 2]
    """
    middles = (levels[1:] + levels[:-1]) / 2
    return levels[torch.bucketize(steps.detach(), middles)]
