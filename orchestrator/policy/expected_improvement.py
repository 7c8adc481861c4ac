"""Expected hypervolume improvement: in closed form for one learned objective, by quadrature for several."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.special import ndtr
from scipy.stats import qmc

from paretta.orchestrator.policy.array import Array
from paretta.search_spaces.objectives.pareto import non_dominated

Scale: TypeAlias = Literal["log", "linear"]

_QUADRATURE_POINTS = 1024
_MOST_EXACT_AXES = 2  # the most known objectives for which the attainment surface is computed exactly


@dataclass(frozen=True, slots=True)
class Attained:
    """The attainment surface of a front: the best learned loss reached at every point of the box of known losses.

    ``attained(k) = min(loss of the front's points whose known losses are all <= k, reference)`` is constant on
    rectangles, of which there are about three for each point of the front.

    Args:
        low, high: [r, 2], corners of the rectangles.
        levels: [r], the loss attained there.
    """

    low: Array
    high: Array
    levels: Array

    @classmethod
    def of(cls, known: Array, losses: Array, *, known_reference: Array, reference: float) -> "Attained":
        """Build the surface from a front; points beyond the reference point are ignored.

        Sweeps over the points from the lowest loss up. The part of the box that they cover is bounded by a staircase,
        rising `xs` and falling `ys`; a point adds the area between its own corner and the staircase.

        Args:
            known: [n, k] with k <= 2, the points' known losses.
            losses: [n], their learned loss.
            known_reference: [k], the reference point of the known losses.
            reference: the reference of the learned loss.
        """
        known, corner = _on_two_axes(known), np.append(known_reference, np.ones(_MOST_EXACT_AXES))[:_MOST_EXACT_AXES]
        inside = (known < corner).all(axis=1) & (losses < reference)
        order = np.flatnonzero(inside)[np.argsort(losses[inside], kind="stable")]
        xs, ys = [-np.inf, float(corner[0])], [float(corner[1]), -np.inf]
        rectangles: list[tuple[float, float, float, float, float]] = []
        for (x, y), level in zip(known[order].tolist(), losses[order].tolist(), strict=True):
            right = bisect_right(xs, x)
            start, top = x, ys[right - 1]
            if top <= y:
                continue
            first = right - 1 if xs[right - 1] == x else right
            while ys[right] >= y:
                rectangles.append((start, y, xs[right], top, level))
                start, top = xs[right], ys[right]
                right += 1
            rectangles.append((start, y, xs[right], top, level))
            xs[first:right], ys[first:right] = [x], [y]
        uncovered = zip(xs[:-1], ys[:-1], xs[1:], strict=True)
        rectangles += [(start, -np.inf, end, top, reference) for start, top, end in uncovered]
        table = np.array(rectangles)
        return cls(table[:, :2], table[:, 2:4], table[:, 4])

    def areas(self, known: Array) -> Array:
        """Return the area, [n, r], of each rectangle's part above each row of `known` [n, k]."""
        known = _on_two_axes(known)
        width = self.high[:, 0] - np.maximum(self.low[:, 0], known[:, 0, None])
        height = self.high[:, 1] - np.maximum(self.low[:, 1], known[:, 1, None])
        return np.asarray(np.maximum(width, 0.0) * np.maximum(height, 0.0))


def _on_two_axes(known: Array) -> Array:
    """Pad losses [n, k <= 2] to two axes; all losses are 0 and the reference is 1 on a new axis."""
    return np.hstack([known, np.zeros((len(known), _MOST_EXACT_AXES - known.shape[1]))])


def expected_gain(mean: Array, deviation: Array, levels: Array, scale: Scale) -> Array:
    """Return ``E[max(level - loss, 0)]`` for every prediction and level, [n, l].

    With ``z = (level - mean) / deviation``: ``(level - mean) Phi(z) + deviation phi(z)`` for a normal loss (Mockus
    1978), and for a loss whose logarithm is normal the put of Black and Scholes (1973),
    ``level Phi(z) - exp(mean + deviation^2 / 2) Phi(z - deviation)`` with ``z`` of the logarithms.

    >>> expected_gain(np.array([0.0]), np.array([1e-9]), np.array([2.0]), "linear")
    array([[2.]])
    """
    mean, deviation = mean[:, None], deviation[:, None]
    if scale == "linear":
        z = (levels - mean) / deviation
        return np.asarray((levels - mean) * ndtr(z) + deviation * np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi))
    z = (np.log(np.maximum(levels, 1e-300)) - mean) / deviation
    put = levels * ndtr(z) - np.exp(mean + 0.5 * deviation**2) * ndtr(z - deviation)
    return np.asarray(np.maximum(put, 0.0))


def improvement_of_one(attained: Attained, known: Array, mean: Array, deviation: Array, scale: Scale) -> Array:
    """Return the expected hypervolume improvement, [n], of points with exact `known` losses and one learned loss."""
    levels, which = np.unique(attained.levels, return_inverse=True)
    gain = expected_gain(mean, deviation, levels, scale)
    return np.asarray((attained.areas(known) * gain[:, which]).sum(axis=1))


def improvement_of_many(
    front: Array, reference: Array, known: Array, mean: Array, deviation: Array, *, scales: tuple[Scale, ...]
) -> Array:
    """Return the expected hypervolume improvement, [n], for any number of known and learned objectives.

    ``EHVI(c) = integral over the undominated z of P(c is no worse than z) dz``, by quasi-Monte Carlo over z in the box
    from an optimistic bound to the reference; for independent learned losses the probability is a product.

    Args:
        front: [f, k + l] losses, known ones first.
        reference: [k + l].
        known: [n, k].
        mean: [n, l], of the logarithm where the scale is ``log``.
        deviation: [n, l], likewise.
        scales: of the l learned objectives.
    """
    num_known = known.shape[1]
    hoped = mean - 2.0 * deviation
    logs = np.array([scale == "log" for scale in scales], dtype=np.bool_)
    hoped = np.where(logs, np.exp(np.where(logs, hoped, 0.0)), hoped)
    lowest = np.minimum(np.hstack([known, hoped]).min(axis=0), reference)
    unit = qmc.Sobol(len(reference), scramble=True, rng=np.random.default_rng(0)).random(_QUADRATURE_POINTS)
    points = lowest + unit * (reference - lowest)
    front = front[(front < reference).all(axis=1)]
    if len(front):
        front = front[non_dominated(front)]
        points = points[~(front[:, None, :] <= points[None, :, :]).all(axis=2).any(axis=0)]
    probability = np.ones((len(known), len(points)))
    for axis in range(num_known):
        probability *= known[:, axis, None] <= points[None, :, axis]
    for axis, scale in enumerate(scales):
        at = points[:, num_known + axis]
        at = np.log(np.maximum(at, 1e-300)) if scale == "log" else at
        probability *= ndtr((at[None, :] - mean[:, axis, None]) / deviation[:, axis, None])
    return np.asarray(probability.sum(axis=1) * (float(np.prod(reference - lowest)) / _QUADRATURE_POINTS))


def exact(num_known: int, num_learned: int) -> bool:
    """Return True if `improvement_of_one` applies."""
    return num_learned == 1 and num_known <= _MOST_EXACT_AXES
