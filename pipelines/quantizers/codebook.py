"""Codebook: 2**bits of the 8-bit codes, chosen by k-means on the weights."""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paretta.pipelines.grid import Grid
from paretta.pipelines.quantizers import Quantizer
from paretta.pipelines.quantizers.symmetric import symmetric_grid


class Codebook(Quantizer):
    """At most ``2**bits`` of the codes -127 .. 127, the same for all channels, each of which has its own step.

    With `code_bits` 7 they are codes of -63 .. 63. The levels are optimal for the weights' histogram (k-means in one
    dimension, solved exactly) and include zero. Stored as an index of few bits and a table, computed as 8-bit
    integers. Source: Han et al., "Deep compression", 2016; Wang and Song, "Ckmeans.1d.dp", 2011.
    """

    kind: Literal["codebook"] = "codebook"

    def fit(self, values: Tensor) -> Grid:
        """Return the grid with its levels."""
        fine = self.covered(values, lambda low, high: symmetric_grid(low, high, self.code_bits))
        codes = fine.codes(values.detach().float()).flatten()
        counts = torch.bincount((codes - fine.low).long(), minlength=fine.high - fine.low + 1)
        levels = best_levels(counts.cpu().numpy(), 2**self.bits) + fine.low
        return replace(fine, levels=torch.from_numpy(levels).to(values.device, torch.int32))


def best_levels(counts: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return up to `number` of the positions 0 .. n - 1 with the least squared distance to a histogram.

    The middle position is always one of them. Solved by dynamic programming over intervals:
    ``E[k, j] = min_i E[k-1, i] + cost(i, j)``.

    Args:
        counts: [n], n odd, the histogram over the positions 0 .. n - 1.
        number: the most positions.

    >>> best_levels(np.array([4, 0, 9, 0, 0, 0, 1]), 3).tolist()
    [0, 2, 3]
    """
    costs, centres = _interval_costs(counts)
    number = min(number, len(counts))
    least = costs[0]  # costs of the intervals 0 .. j - 1 with one level
    cuts = []
    for _ in range(number - 1):
        totals = least[:, None] + costs
        cuts.append(totals.argmin(0))
        least = totals.min(0)
    end, found = len(counts), set[int]()
    for cut in [*reversed(cuts), np.zeros(len(counts) + 1, np.int64)]:
        start = int(cut[end])
        if end > start:
            found.add(int(centres[start, end]))
        end = start
    return np.array(sorted(found | {len(counts) // 2}))


def _interval_costs(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the least cost and the best position of one level for positions i .. j - 1, [n + 1, n + 1] each."""
    places = np.arange(len(counts), dtype=np.float64)
    weight, first, second = (np.concatenate([[0.0], np.cumsum(counts * places**power)]) for power in range(3))
    w, f, s = (total[None, :] - total[:, None] for total in (weight, first, second))
    middle = len(counts) // 2
    centres = np.rint(np.divide(f, w, out=np.zeros_like(f), where=w > 0))
    holds_middle = (np.arange(len(counts) + 1)[:, None] <= middle) & (np.arange(len(counts) + 1)[None, :] > middle)
    centres = np.where(holds_middle, middle, centres)
    costs = s - 2 * centres * f + centres**2 * w
    costs = np.where(np.tri(len(counts) + 1, k=-1, dtype=bool), np.inf, costs)  # no interval ends before it starts
    return costs, centres.astype(np.int64)
