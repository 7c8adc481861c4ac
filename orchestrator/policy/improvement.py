"""Expected hypervolume improvement: closed form where one objective is learned, by quadrature where several are."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import qmc

from search_spaces.pareto import non_dominated

Array: TypeAlias = NDArray[np.float64]
Scale: TypeAlias = Literal["log", "linear"]

_QUADRATURE_POINTS = 1024
_MOST_EXACT_AXES = 2  # known objectives up to which the attained surface is held exactly, cell by cell


@dataclass(frozen=True, slots=True)
class Attained:
    """The best learned loss that a front has reached at every point of the box of known losses.

    ``attained(k) = min(loss of the front's points whose known losses are all <= k, reference)``. It takes few distinct
    values, the `levels`; the improvement of a new point is a sum over them.

    Args:
        levels: [l] distinct values, the last one the reference.
        edges: per known objective the cell borders, from -inf to the reference.
        order, starts: cells sorted by level, and where each level begins.
    """

    levels: Array
    edges: tuple[Array, ...]
    order: NDArray[np.intp]
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, known: Array, losses: Array, *, known_reference: Array, reference: float) -> "Attained":
        """Build from a front.

        Args:
            known: [n, k] with k <= 2, the points' known losses.
            losses: [n], their learned loss.
            known_reference: [k], the reference point of the known losses.
            reference: that of the learned loss.
        """
        known, known_reference = _with_an_axis(known, 0.0), _with_an_axis(known_reference[None], 1.0)[0]
        inside = (known < known_reference).all(axis=1) & (losses < reference)
        known, losses = known[inside], losses[inside]
        axes = [np.unique(known[:, axis]) for axis in range(known.shape[1])]
        edges = tuple(np.concatenate([[-np.inf], a, [r]]) for a, r in zip(axes, known_reference, strict=True))
        cells = np.full([len(edge) - 1 for edge in edges], reference)
        at = tuple(np.searchsorted(axis, known[:, index]) + 1 for index, axis in enumerate(axes))
        np.minimum.at(cells, at, losses)
        for axis in range(cells.ndim):
            cells = np.minimum.accumulate(cells, axis=axis)
        levels, which = np.unique(cells.ravel(), return_inverse=True)
        order = np.argsort(which, kind="stable")
        return cls(levels, edges, order, np.searchsorted(which[order], np.arange(len(levels))))

    def areas(self, known: Array) -> Array:
        """Return [n, levels]: how much of the box above each row of `known` [n, k] has each level."""
        known, product = _with_an_axis(known, 0.0), np.ones((len(known), 1))
        for axis, edge in enumerate(self.edges):
            width = edge[1:] - np.maximum(edge[:-1], known[:, axis, None])
            product = (product[:, :, None] * np.maximum(width, 0.0)[:, None, :]).reshape(len(known), -1)
        return np.asarray(np.add.reduceat(product[:, self.order], self.starts, axis=1))


def _with_an_axis(known: Array, value: float) -> Array:
    """Give losses [n, 0] one axis on which all have `value`, so that no known objective is a case of one."""
    return known if known.shape[1] else np.full((len(known), 1), value)


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
    gain = expected_gain(mean, deviation, attained.levels, scale)
    return np.asarray((attained.areas(known) * gain).sum(axis=1))


def improvement_of_many(
    front: Array, reference: Array, known: Array, mean: Array, deviation: Array, *, scales: tuple[Scale, ...]
) -> Array:
    """Return the expected hypervolume improvement, [n], for any number of known and learned objectives.

    ``EHVI(c) = integral over the undominated z of P(c is no worse than z) dz``, by quasi-Monte Carlo over z in the box
    from the best to be hoped for to the reference; for independent learned losses the probability is a product.

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
    """Tell whether `improvement_of_one` applies."""
    return num_learned == 1 and num_known <= _MOST_EXACT_AXES
