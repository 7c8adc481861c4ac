"""Rounding by second order: each weight is rounded so that later ones can make up for its error."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from paretta.pipelines.post_training.layer_objective import LayerObjective

# nearest(values [rows], columns [k]) -> grid points; called with values [groups, rows, k]
Nearest: TypeAlias = Callable[[Tensor, slice], Tensor]
_SWEEPS = 20


def second_order(objective: LayerObjective, start: Tensor, nearest: Nearest) -> Tensor:
    """Return grid points with a low objective, never a higher one than those nearest to `start`; [groups, rows, in].

    Weights are rounded column by column. The error of each is made up for by the columns that are still to come,
    ``w_j <- w_j - (w_i - q_i) [H^-1]_ij / [H^-1]_ii`` with the columns already rounded removed from H (Frantar and
    Alistarh, "Optimal brain compression", 2022; in the order of "GPTQ", 2023, columns of large curvature first). Then
    single codes are changed for as long as that lowers the objective, which it does exactly, see `descended`.

    Args:
        objective: of the layer.
        start: the weights to round, [groups, rows, in].
        nearest: returns the grid points nearest to values [groups, rows, columns] of given columns.
    """
    simple = descended(objective, nearest(start, slice(None)), nearest)
    clever = descended(objective, _compensated(objective, nearest), nearest)
    better = objective.losses(clever) < objective.losses(simple)
    return torch.where(better[..., None], clever, simple)


def descended(objective: LayerObjective, codes: Tensor, nearest: Nearest) -> Tensor:
    """Return grid points from which no change of a single one lowers a row's objective, starting from `codes`.

    With the others fixed, the objective is a parabola in ``q_i`` with its minimum at ``q_i - g_i / H_ii``, where
    ``g = q H - r``; the best grid point is the one nearest to it. No step raises the objective.
    """
    q = codes.clone()
    diagonal = objective.curvature.diagonal(dim1=-2, dim2=-1)
    slope = q @ objective.curvature - objective.linear
    for _ in range(_SWEEPS):
        changed = False
        for i in range(q.shape[-1]):
            here = slice(i, i + 1)
            wanted = q[..., here] - slope[..., here] / diagonal[:, None, here]
            found = nearest(wanted, here)
            # a tie, or a difference that is rounding, changes nothing, so that the sweeps end
            gain = (q[..., here] - wanted).abs() - (found - wanted).abs()
            step = torch.where(gain > 1e-9 * (q[..., here] - found).abs(), found - q[..., here], 0.0)
            if bool(step.any()):
                q[..., here] += step
                slope += step * objective.curvature[:, None, i]
                changed = True
        if not changed:
            break
    return q


def _compensated(objective: LayerObjective, nearest: Nearest) -> Tensor:
    """Round the weights of the least error column by column, those of the largest curvature first."""
    w = objective.best_weight()
    diagonal = objective.curvature.diagonal(dim1=-2, dim2=-1).mean(0)  # groups share an order
    order = torch.argsort(diagonal, descending=True, stable=True)
    ordered = objective.curvature[:, order][:, :, order]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
    factor = torch.linalg.cholesky(inverse, upper=True)  # row i: [H^-1]_i of the columns from i on, scaled
    q = torch.zeros_like(w)
    left = w[..., order]
    for place, column in enumerate(order.tolist()):
        values = left[..., place : place + 1]
        rounded = nearest(values, slice(column, column + 1))
        q[..., column : column + 1] = rounded
        error = (values - rounded) / factor[:, None, place, place, None]
        left[..., place:] -= error * factor[:, None, place, place:]
    return q
