"""Boxes as (left, top, right, bottom): their overlap, and what a detector finds in an image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paretta.search_spaces.errors import Problem, WrongInput


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """The boxes of one image, found or true.

    Args:
        corners: left, top, right and bottom of each box, [n, 4].
        labels: classes, [n] of int64.
        scores: how sure a detector is of each, [n]; None for true boxes.
    """

    corners: Tensor
    labels: Tensor
    scores: Tensor | None = None


def box_overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union of each pair of boxes, [n, m] for [n, 4] and [m, 4].

    >>> box_overlaps(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0], [4.0, 4.0, 5.0, 5.0]]))
    tensor([[0.3333, 0.0000]])
    """
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None, :] - shared).clamp_min(torch.finfo(shared.dtype).tiny)


def found_boxes(
    corners: Tensor, scores: Tensor, *, least: float = 0.05, overlap: float = 0.5, most: int = 100
) -> Boxes:
    """Return the boxes that a detector finds: of boxes of one class that overlap, the one with the highest score.

    This is the greedy non-maximum suppression of Felzenszwalb et al. (2010), for each class.

    Args:
        corners: of all candidates, [n, 4].
        scores: of each class, without a background, [n, classes].
        least: candidates with lower scores are dropped.
        overlap: a box is dropped if its intersection over union with a better one is more than this.
        most: number of boxes that are kept at most, those with the highest scores.
    """
    best, labels = scores.max(1)
    order = best.argsort(descending=True, stable=True)
    order = order[best[order] >= least]
    best, labels, corners = best[order], labels[order], corners[order]
    rivals = (box_overlaps(corners, corners) > overlap) & (labels[:, None] == labels[None, :])
    kept: list[int] = []
    dropped = torch.zeros(len(order), dtype=torch.bool)
    for place in range(len(order)):
        if len(kept) == most:
            break
        if not dropped[place]:
            kept.append(place)
            dropped |= rivals[place]
    return Boxes(corners[kept], labels[kept], best[kept])


def require_boxes(boxes: Boxes, where: str) -> None:
    """Raise `WrongInput` if true boxes have other than four corners, no area, or not one label each."""
    if boxes.corners.dim() != 2 or boxes.corners.shape[1] != 4:
        raise WrongInput(Problem(where, "boxes must be [n, 4]: left, top, right, bottom", list(boxes.corners.shape)))
    if boxes.labels.shape != boxes.corners.shape[:1]:
        rule = f"there must be a label for each of {len(boxes.corners)} boxes"
        raise WrongInput(Problem(where, rule, list(boxes.labels.shape)))
    empty = (boxes.corners[:, 2:] <= boxes.corners[:, :2]).any(1)
    if bool(empty.any()):
        place = int(empty.nonzero()[0])
        rule = f"box {place} must have left < right and top < bottom"
        found = [round(value, 2) for value in boxes.corners[place].tolist()]
        raise WrongInput(Problem(where, rule, found, "corners are left, top, right, bottom, not a size"))
