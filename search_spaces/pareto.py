"""Pareto mathematics on a matrix of losses, smaller is better in every column."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Losses: TypeAlias = NDArray[np.float64]


def non_dominated(losses: Losses) -> NDArray[np.bool_]:
    """Mark the rows that no other row dominates; equal rows do not dominate each other.

    Args:
        losses: [n, m].

    Returns:
        [n], True where no row is at least as good everywhere and better somewhere.

    >>> non_dominated(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]]))
    array([ True,  True, False])
    """
    losses = np.asarray(losses, dtype=np.float64)
    keep = np.ones(len(losses), dtype=np.bool_)
    order = np.lexsort(losses.T[::-1])
    kept: list[int] = []
    for row in order:
        front = losses[kept]
        no_worse = (front <= losses[row]).all(axis=1)
        if (no_worse & (front < losses[row]).any(axis=1)).any():
            keep[row] = False
        else:
            kept.append(int(row))
    return keep


def hypervolume(losses: Losses, reference: Losses) -> float:
    """Return the volume that the rows dominate, up to the reference point.

    Slices along the last objective (Fonseca, Paquete, Lopez-Ibanez 2006 give the faster variants); rows that are not
    better than `reference` in every objective add nothing.

    Args:
        losses: [n, m].
        reference: [m].

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0]))
    3.0
    """
    reference = np.asarray(reference, dtype=np.float64)
    points = np.asarray(losses, dtype=np.float64).reshape(-1, len(reference))
    points = points[(points < reference).all(axis=1)]
    if not len(points):
        return 0.0
    return _volume(points[non_dominated(points)], reference)


def _volume(points: Losses, reference: Losses) -> float:
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    if points.shape[1] == 2:
        return _area(points, reference)
    ends = np.append(points[1:, -1], reference[-1])
    total = 0.0
    for count, (start, end) in enumerate(zip(points[:, -1], ends, strict=True), start=1):
        if end > start:
            slab = points[:count, :-1]
            total += float(end - start) * _volume(slab[non_dominated(slab)], reference[:-1])
    return total


def _area(points: Losses, reference: Losses) -> float:
    lowest = np.minimum.accumulate(points[:, 0])
    heights = np.diff(np.append(points[:, 1], reference[1]))
    return float(((reference[0] - lowest) * heights).sum())


def hypervolume_contributions(losses: Losses, reference: Losses) -> Losses:
    """Return how much hypervolume each row adds to the others, [n].

    >>> hypervolume_contributions(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0]))
    array([1., 1.])
    """
    losses = np.asarray(losses, dtype=np.float64)
    total = hypervolume(losses, reference)
    rest = [hypervolume(np.delete(losses, row, axis=0), reference) for row in range(len(losses))]
    return np.maximum(total - np.array(rest), 0.0)
