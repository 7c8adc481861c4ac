"""Pareto mathematics on a matrix of losses, in which smaller is better in every column."""

from bisect import bisect_right
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Losses: TypeAlias = NDArray[np.float64]

_SMALL = 200  # up to this many rows, comparing every pair is fastest


def non_dominated(losses: Losses) -> NDArray[np.bool_]:
    """Mark the rows that no other row dominates; equal rows do not dominate each other.

    Args:
        losses: [n, m].

    Returns:
        [n], True for a row if no other row is at least as good in every column and better in one.

    >>> non_dominated(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]]))
    array([ True,  True, False])
    """
    losses = np.asarray(losses, dtype=np.float64)
    if len(losses) <= _SMALL:
        no_worse = (losses[:, None, :] <= losses[None, :, :]).all(axis=2)
        return np.asarray(~(no_worse & ~no_worse.T).any(axis=0))
    order = np.argsort(losses[:, 0])
    if (np.diff(losses[order, 0]) == 0).any():
        order = np.lexsort(losses.T[::-1])
    ordered = losses[order]
    is_new = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    keep = _keep_of_three(ordered[is_new]) if losses.shape[1] <= 3 else _keep_of_many(ordered[is_new])
    marks = np.empty(len(losses), dtype=np.bool_)
    marks[order] = keep[np.cumsum(is_new) - 1]
    return marks


def hypervolume(losses: Losses, reference: Losses) -> float:
    """Return the volume that the rows dominate, up to the reference point.

    For three objectives, sweeps over one while maintaining the staircase of the other two (Beume et al. 2009). For
    more, slices along the last one (Fonseca, Paquete, Lopez-Ibanez 2006). Rows that are not better than `reference` in
    every objective add nothing.

    Args:
        losses: [n, m].
        reference: [m].

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0]))
    3.0
    """
    reference = np.asarray(reference, dtype=np.float64)
    points = np.asarray(losses, dtype=np.float64).reshape(-1, len(reference))
    points = points[(points < reference).all(axis=1)]
    return _volume(points, reference) if len(points) else 0.0


def hypervolume_contributions(losses: Losses, reference: Losses) -> Losses:
    """Return how much hypervolume each row adds to that of the other rows, [n].

    >>> hypervolume_contributions(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0]))
    array([1., 1.])
    """
    losses = np.asarray(losses, dtype=np.float64)
    total = hypervolume(losses, reference)
    rest = [hypervolume(np.delete(losses, row, axis=0), reference) for row in range(len(losses))]
    return np.maximum(total - np.array(rest), 0.0)


def _keep_of_three(unique: Losses) -> NDArray[np.bool_]:
    """Mark the non-dominated among distinct rows [n, m <= 3] that are sorted lexicographically.

    Divide and conquer: when the rows are halved recursively, a row of a right half is dominated by a row of the
    matching left half if and only if, among the left rows whose second loss is no larger, the lowest third loss is no
    larger than its own. All halves of one size are processed at once on ranks, in order of the second loss.
    """
    size = len(unique)
    padded = np.hstack([unique, np.zeros((size, 3 - unique.shape[1]))])
    second = np.argsort(padded[:, 1], kind="stable")
    third = np.searchsorted(np.sort(padded[:, 2]), padded[:, 2])
    dominated = np.zeros(size, dtype=np.bool_)
    depth = max(int(size - 1).bit_length(), 1)
    for level in range(depth):
        pair = second >> (level + 1)
        order = second[np.argsort(pair.astype(np.uint16) if pair.max() < 2**16 else pair, kind="stable")]
        shift = (order >> (level + 1)) * -(
            size + 1
        )  # each pair starts below the one before it, so the minimum restarts
        right = (order >> level & 1).astype(np.bool_)
        lowest = np.minimum.accumulate(np.where(right, size, third[order]) + shift)
        dominated[order] |= right & (lowest <= third[order] + shift)
    return ~dominated


def _keep_of_many(unique: Losses) -> NDArray[np.bool_]:
    """Mark the non-dominated among distinct rows [n, m] that are sorted lexicographically."""
    keep = np.zeros(len(unique), dtype=np.bool_)
    for row, losses in enumerate(unique):
        keep[row] = not (unique[:row][keep[:row]] <= losses).all(axis=1).any()
    return keep


def _volume(points: Losses, reference: Losses) -> float:
    """Return the volume of rows [n, m] that are all better than the reference point."""
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    if points.shape[1] == 2:
        return _area(points, reference)
    if points.shape[1] == 3:
        return _sweep(points, reference)
    points = points[non_dominated(points)]
    points = points[np.argsort(points[:, -1], kind="stable")]
    ends = np.append(points[1:, -1], reference[-1])
    slabs = enumerate(zip(points[:, -1], ends, strict=True), start=1)
    return sum(float(end - at) * _volume(points[:n, :-1], reference[:-1]) for n, (at, end) in slabs if end > at)


def _area(points: Losses, reference: Losses) -> float:
    points = points[np.argsort(points[:, 1], kind="stable")]
    lowest = np.minimum.accumulate(points[:, 0])
    heights = np.diff(np.append(points[:, 1], reference[1]))
    return float(((reference[0] - lowest) * heights).sum())


def _sweep(points: Losses, reference: Losses) -> float:
    """Return the volume for three objectives: the sum of staircase area times the step to the next third loss.

    The staircase is stored as increasing first losses `xs` and decreasing second losses `ys`, bounded by the reference.
    """
    points = points[np.argsort(points[:, 2], kind="stable")]
    end_x, end_y, end_z = reference.tolist()
    xs, ys = [-np.inf, end_x], [end_y, -np.inf]
    volume = area = before = 0.0
    for x, y, z in zip(*points.T.tolist(), strict=True):
        right = bisect_right(xs, x)
        top = ys[right - 1]
        if top <= y:
            continue
        volume += area * (z - before)
        before = z
        first = right - 1 if xs[right - 1] == x else right
        start = x
        while (below := ys[right]) >= y:
            end = xs[right]
            area += (end - start) * (top - y)
            start, top = end, below
            right += 1
        area += (xs[right] - start) * (top - y)
        if right == first + 1:
            xs[first], ys[first] = x, y
        else:
            xs[first:right], ys[first:right] = (x,), (y,)
    return float(volume + area * (end_z - before))
