"""Asynchronous multi-objective successive halving: a trial goes on if it ranks high among the trials so far."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from paretta.orchestrator.policy.array import Array
from paretta.search_spaces.objectives.pareto import hypervolume_contributions, non_dominated

Rank: TypeAlias = Literal["contribution", "spread"]


@dataclass(slots=True)
class SuccessiveHalving:
    """Stops all but the best share of the trials at a rung so far (ASHA, Li et al. 2020, stopping variant).

    ASHA keeps ``1 / eta`` where each rung costs `eta` times the one before, so that every rung costs the same in all.
    Where a trial has paid for other work before its first rung, stopping saves less, and the share to keep is higher:
    `Rungs.share_spent`.

    With three objectives most trials of a rung do not dominate each other, so ranking by layers alone would stop
    trials almost at random. Inside a layer the larger contribution to the hypervolume ranks first.

    Args:
        reference: [m], the reference point.
        rank: the order inside a layer, see `ranking`.
    """

    reference: Array
    rank: Rank = "contribution"
    _seen: dict[int, list[Array]] = field(default_factory=dict)

    def report(self, rung: int, losses: Array, *, keep: float = 1.0 / 3.0) -> bool:
        """Record a trial's `losses` [m] at a rung; return True if it is in the best share `keep` and should go on."""
        peers = self._seen.setdefault(rung, [])
        peers.append(np.asarray(losses, dtype=np.float64))
        return _place_of_last(np.array(peers), self.reference, self.rank) < max(1, round(len(peers) * keep))


def ranking(losses: Array, reference: Array, within: Rank = "contribution") -> NDArray[np.intp]:
    """Return the rows of `losses` [n, m] from best to worst: by non-dominated layer, then inside it.

    Args:
        losses: [n, m].
        reference: [m], the reference point.
        within: ``contribution`` ranks by the contribution to the layer's hypervolume or, if no row is inside the
            reference point, by the smallest excess beyond it. ``spread`` is the epsilon-net of MO-ASHA (Schmucker et
            al. 2021): each next row is the one farthest from those before it.

    >>> ranking(np.array([[3.0, 3.0], [1.0, 2.0], [2.0, 0.5]]), np.array([4.0, 4.0]))
    array([2, 1, 0])
    """
    layers = [layer[_inside(losses[layer], reference, within)] for layer in _layers(losses)]
    return np.concatenate(layers) if layers else np.empty(0, dtype=np.intp)


def _place_of_last(losses: Array, reference: Array, within: Rank) -> int:
    """Return the position of the last row in `ranking`, sorting only its own layer."""
    before, last = 0, len(losses) - 1
    for layer in _layers(losses):
        if layer[-1] == last:
            order = _inside(losses[layer], reference, within)
            return before + int(np.flatnonzero(order == len(layer) - 1)[0])
        before += len(layer)
    raise AssertionError("every row is in a layer")


def _layers(losses: Array) -> Iterator[NDArray[np.intp]]:
    """Sort rows into non-dominated layers, best first; rows in ascending order inside each layer."""
    left = np.arange(len(losses))
    while len(left):
        front = non_dominated(losses[left])
        yield left[front]
        left = left[~front]


def _inside(layer: Array, reference: Array, within: Rank) -> NDArray[np.intp]:
    return _by_contribution(layer, reference) if within == "contribution" else _by_spread(layer)


def _by_contribution(layer: Array, reference: Array) -> NDArray[np.intp]:
    beyond = np.maximum(layer - reference, 0.0).sum(axis=1)
    return np.lexsort((beyond, -hypervolume_contributions(layer, reference)))


def _by_spread(layer: Array) -> NDArray[np.intp]:
    order = [int(np.argmin(layer[:, 0]))]
    gaps = np.linalg.norm(layer - layer[order[0]], axis=1)
    while len(order) < len(layer):
        gaps[order] = -1.0
        order.append(int(np.argmax(gaps)))
        gaps = np.minimum(gaps, np.linalg.norm(layer - layer[order[-1]], axis=1))
    return np.array(order, dtype=np.intp)
