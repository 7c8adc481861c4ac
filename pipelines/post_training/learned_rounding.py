"""Learned rounding: whether each weight is rounded up or down is learned by gradient descent."""

import math

import torch
from torch import Tensor

from paretta.pipelines.post_training.layer_objective import LayerObjective

_STEPS, _RATE = 500, 0.02
_STRETCH_LOW, _STRETCH_HIGH = -0.1, 1.1
_WARM = 0.2  # of the steps, without the pull towards 0 and 1
_BETA_START, _BETA_END = 20.0, 2.0
_PULL = 0.1  # of the objective at the nearest rounding, per weight


def learned_rounding(objective: LayerObjective, below: Tensor, above: Tensor, nearest: Tensor) -> Tensor:
    """Return for each weight the grid point below or above it, never with a higher objective than `nearest`.

    ``q = below + h(v) (above - below)`` with ``h(v) = clip(1.2 sigmoid(v) - 0.1, 0, 1)``; v minimises the objective
    plus ``pull * sum(1 - |2 h(v) - 1|^beta)``, whose beta falls from 20 to 2, so that h ends at 0 or 1. Source: Nagel
    et al., "Up or down? Adaptive rounding for post-training quantization", 2020 (AdaRound), here with the layer's
    objective in closed form, over all samples at once, and without the activation behind it.

    Args:
        objective: of the layer.
        below: the grid points at or below the weights, [groups, rows, in].
        above: the grid points at or above them; equal to `below` where there is none.
        nearest: the grid points nearest to them, which a row keeps if learning does not lower its objective.
    """
    width = above - below
    start = torch.where(width > 0, (nearest - below) / width.clamp_min(torch.finfo(width.dtype).tiny), 0.0)
    found = below + width * _learned(objective, below, width, start).round()
    better = objective.losses(found) < objective.losses(nearest)
    return torch.where(better[..., None], found, nearest)


def softened(share: Tensor) -> Tensor:
    """Return v with ``h(v) = share`` for shares inside 0 .. 1.

    >>> round(stretched(softened(torch.tensor(0.3))).item(), 4)
    0.3
    """
    return -torch.log((_STRETCH_HIGH - _STRETCH_LOW) / (share - _STRETCH_LOW) - 1)


def stretched(v: Tensor) -> Tensor:
    """Return ``h(v)``, the rectified sigmoid, which reaches 0 and 1."""
    return (torch.sigmoid(v) * (_STRETCH_HIGH - _STRETCH_LOW) + _STRETCH_LOW).clamp(0.0, 1.0)


def _learned(objective: LayerObjective, below: Tensor, width: Tensor, nearest: Tensor) -> Tensor:
    """Return h(v) after gradient descent by Adam, close to 0 or 1."""
    # each row is scaled by its own error, so that the pull is as strong in all of them
    scale = objective.losses(below + width * nearest).clamp_min(torch.finfo(width.dtype).tiny)[..., None]
    v = softened(0.25 + 0.5 * nearest)  # inclined to the nearest, not yet decided
    first, second = torch.zeros_like(v), torch.zeros_like(v)
    for step in range(1, _STEPS + 1):
        h = stretched(v)
        q = below + width * h
        gradient = 2 * (q @ objective.curvature - objective.linear) * width / scale
        gradient += _PULL * _pull(h, step / _STEPS)
        sigmoid = torch.sigmoid(v)
        inside = ((h > 0) & (h < 1)) | (gradient * (h - 0.5) > 0)
        gradient *= (_STRETCH_HIGH - _STRETCH_LOW) * sigmoid * (1 - sigmoid) * inside
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient.square()
        rate = _RATE * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        v = v - rate * first / (second.sqrt() + 1e-12)
    return stretched(v)


def _pull(h: Tensor, progress: float) -> Tensor:
    """Return the gradient of ``1 - |2 h - 1|^beta``."""
    if progress < _WARM:
        return torch.zeros_like(h)
    beta = _BETA_END + (_BETA_START - _BETA_END) * 0.5 * (1 + math.cos(math.pi * (progress - _WARM) / (1 - _WARM)))
    off = 2 * h - 1
    return -2 * beta * off.sign() * off.abs() ** (beta - 1)
