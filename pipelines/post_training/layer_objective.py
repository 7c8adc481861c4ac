"""The squared error of a layer's outputs as a quadratic function of its weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

# the part of the inputs' mean square that is added to each of them: less overfits few samples, more ignores the data
DAMPING = 0.01


@dataclass(frozen=True, slots=True)
class LayerObjective:
    """``E ||y - q x - b||^2 + d ||q - w||^2`` for each row q of a weight, with the bias b that is best for it.

    Here x is what the layer reads in the compressed model, y what the layer answers in the uncompressed one, w the
    uncompressed weight and d a small part of the mean of ``x^2``. With ``H = E x x^T + d I`` and ``r = E y x + d w``
    this is ``q H q^T - 2 q r + c``, as in optimal brain surgeon (Hassibi and Stork, 1993). If the bias may change, H
    and r have covariances instead of second moments; otherwise y is without it. A convolution is a linear layer on
    patches; rows of a group share H.

    Args:
        curvature: H, float64 [groups, in, in], positive definite.
        linear: r, [groups, out / groups, in].
        constant: c, [groups, out / groups].
        input_mean: of x, [groups, in]; zeros if the bias stays.
        output_mean: of y, [groups, out / groups]; zeros if the bias stays.
    """

    curvature: Tensor
    linear: Tensor
    constant: Tensor
    input_mean: Tensor
    output_mean: Tensor

    @classmethod
    def of(
        cls, xx: Tensor, yx: Tensor, yy: Tensor, weight: Tensor, means: tuple[Tensor, Tensor] | None = None
    ) -> "LayerObjective":
        """Make it from second moments.

        Args:
            xx: ``E x x^T``, [groups, in, in].
            yx: ``E y x``, [groups, out / groups, in].
            yy: ``E y^2``, [groups, out / groups].
            weight: the uncompressed weight, [groups, out / groups, in].
            means: of x and y, if the bias may change.
        """
        x_mean, y_mean = means or (torch.zeros_like(xx[..., 0]), torch.zeros_like(yy))
        xx = xx - x_mean[..., :, None] * x_mean[..., None, :]
        yx, yy = yx - y_mean[..., :, None] * x_mean[..., None, :], yy - y_mean.square()
        damping = DAMPING * xx.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
        curvature = xx + damping[..., None] * torch.eye(xx.shape[-1], dtype=xx.dtype, device=xx.device)
        constant = yy + damping * weight.square().sum(-1)
        return cls(curvature, yx + damping[..., None] * weight, constant, x_mean, y_mean)

    @property
    def is_degenerate(self) -> bool:
        """Whether a group of the layer reads the same value always, so that the data say nothing about its weights."""
        diagonal = self.curvature.diagonal(dim1=-2, dim2=-1)
        return not bool(torch.isfinite(self.curvature).all()) or bool((diagonal.amax(-1) <= 0).any())

    def losses(self, weight: Tensor) -> Tensor:
        """Return the objective of each row of `weight` [groups, out / groups, in], [groups, out / groups].

        >>> eye, ones = torch.eye(2).double()[None], torch.ones(1, 1, 2).double()
        >>> objective = LayerObjective.of(eye, ones, torch.full((1, 1), 2.0).double(), ones)
        >>> round(objective.losses(ones).item(), 9), round(objective.losses(0 * ones).item(), 9)
        (0.0, 2.02)
        """
        return ((weight @ self.curvature) * weight - 2 * weight * self.linear).sum(-1) + self.constant

    def best_weight(self) -> Tensor:
        """Return the weights of the least error, ``r H^-1`` (ridge regression), [groups, out / groups, in]."""
        factor = torch.linalg.cholesky(self.curvature)
        return torch.cholesky_solve(self.linear.mT, factor).mT

    def bias_for(self, weight: Tensor) -> Tensor:
        """Return the best bias of the rows of `weight`, ``E y - q E x``, [groups, out / groups].

        Source: Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, with means
        that are measured.
        """
        return self.output_mean - (weight @ self.input_mean[..., None])[..., 0]


def grouped(weight: Tensor, groups: int) -> Tensor:
    """Return a layer's weight [out, in / groups, ...] in the objective's form, float64 [groups, out / groups, in].

    >>> grouped(torch.zeros(4, 2, 3, 3), 2).shape
    torch.Size([2, 2, 18])
    """
    return weight.double().reshape(groups, len(weight) // groups, -1)
