"""Quantizers, which fit an integer grid to a tensor, one file each."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from paretta.pipelines.grid import Grid
from paretta.search_spaces.registry import QUANTIZERS

RangeRule = Literal["minmax", "percentile", "mse"]
# lows [rows], highs [rows] -> a grid of as many rows that covers the ranges
Cover: TypeAlias = Callable[[Tensor, Tensor], Grid]

# Clipping candidates from the full range down to a fifth of it. A finer or longer list changed the error of Gaussian
# weights by less than 1 % at 2 to 8 bits.
_CLIPS = torch.linspace(1.0, 0.2, 33)


class Quantizer(BaseModel, ABC):
    """Fits a grid to a tensor; a file ``x.py`` defines the class ``X``. Zero is always represented exactly.

    Codes are in -128 .. 127, or in 0 .. 255 for activations.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bits: int = Field(default=8, ge=2, le=8, description="the width of a code, 2..8")
    code_bits: int = Field(default=8, ge=2, le=8, description="the widest code that integer kernels multiply exactly")
    axis: int | None = Field(
        default=0, description="the dimension whose every index has a step of its own; None: one for all"
    )
    group: int | None = Field(
        default=None, ge=1, description="how many weights of a row of a matrix share a step; None: all of `axis`"
    )
    range: RangeRule = Field(default="mse", description="one of minmax, percentile, mse")
    percentile: float = Field(
        default=99.99, gt=50.0, le=100.0, description="the share kept by `percentile`, such as 99.99"
    )

    @abstractmethod
    def fit(self, values: Tensor) -> Grid:
        """Return the grid for sample `values` of any shape; if `axis` is set, it is their first dimension."""

    def covered(self, values: Tensor, cover: Cover) -> Grid:
        """Return the grid that `cover` makes for the range of `values` by the range rule, one per index of `axis`.

        minmax uses the full range. percentile cuts off the same share at both ends. mse uses, of 33 shrunken ranges,
        the one whose grid has the least squared error (as in Banner et al., "Post training 4-bit quantization of
        convolutional networks", 2019). With `group` every group of a row has a range of its own.
        """
        assert self.axis in (None, 0), "channels come first"
        values = values.detach().float()
        if self.group is not None:
            return self._covered_by_groups(values, self.group, cover)
        rows = values.reshape(1, -1) if self.axis is None else values.flatten(1)
        low, high = rows.amin(1), rows.amax(1)
        if self.range == "percentile":
            low, high = percentile_range(rows, self.percentile)
        if self.range == "mse":
            clip = _best_clip(rows, low, high, cover)
            low, high = low * clip, high * clip
        grid = cover(low, high)
        if self.axis is not None:
            return grid
        return Grid(grid.scale[0], grid.zero_point[0], grid.low, grid.high, None, grid.levels, grid.dyadic)

    def _covered_by_groups(self, values: Tensor, group: int, cover: Cover) -> Grid:
        """Treat every group of `values` [rows, columns] as a row; zeros fill the last one up, which every grid has."""
        assert self.axis == 0
        assert values.dim() == 2, "groups are of the rows of matrices"
        filled = F.pad(values, (0, -values.shape[1] % group)).reshape(-1, group)
        grid = self.model_copy(update={"group": None}).covered(filled, cover)
        shape = len(values), -1
        return replace(grid, scale=grid.scale.view(shape), zero_point=grid.zero_point.view(shape), group=group)


def percentile_range(rows: Tensor, percentile: float) -> tuple[Tensor, Tensor]:
    """Return the range of each row without ``100 - percentile`` per cent of its values, half of them at each end.

    >>> low, high = percentile_range(torch.arange(101.0)[None], 98.0)
    >>> low.item(), high.item()
    (1.0, 99.0)
    """
    ordered = rows.sort(1).values
    tail = round((100.0 - percentile) / 200.0 * (ordered.shape[1] - 1))
    return ordered[:, tail], ordered[:, ordered.shape[1] - 1 - tail]


def _best_clip(rows: Tensor, low: Tensor, high: Tensor, cover: Cover) -> Tensor:
    best, least = torch.ones_like(low), torch.full_like(low, torch.inf)
    for clip in _CLIPS.tolist():
        error = (cover(low * clip, high * clip).nearest(rows) - rows).square().sum(1)
        best = torch.where(error < least, clip, best)
        least = torch.minimum(error, least)
    return best


def quantizer_of(
    name: str, *, bits: int, axis: int | None, range: RangeRule, code_bits: int = 8, group: int | None = None
) -> Quantizer:
    """Return the quantizer called `name` with its settings, `bits` being at most `code_bits`. Raises `WrongInput`."""
    quantizer_class = QUANTIZERS.load_class(name, Quantizer, where="quantize.weights")  # type: ignore[type-abstract]
    bits = min(bits, code_bits)
    return quantizer_class(bits=bits, code_bits=code_bits, axis=axis, range=range, group=group)


def known_quantizer(name: str) -> str:
    """Validate a setting that names a quantizer: return it, or raise ValueError with the reason."""
    return QUANTIZERS.known(name, Quantizer)
