"""The mean average precision of a detector, as COCO defines it, from matches that are made once for each image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.integrations.detection.boxes import Boxes, box_overlaps, require_boxes
from paretta.pipelines.task import Metric
from paretta.search_spaces.errors import Problem, WrongInput

_RECALLS: Final = np.linspace(0.0, 1.0, 101)
COCO_OVERLAPS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Which boxes found in an image are right.

    Args:
        scores: of the boxes found, [n].
        labels: their classes, [n].
        right: for each overlap that is asked for, whether the box has a true one, [overlaps, n].
        truths: the classes of the true boxes, [m].
    """

    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    right: NDArray[np.bool_]
    truths: NDArray[np.int64]


def match_boxes(found: Boxes, true: Boxes, overlaps: Sequence[float] = COCO_OVERLAPS) -> Matches:
    """Match the boxes found in an image with the true ones.

    In the order of their scores, each box takes the true box of its class that it overlaps most among those that are
    left, if their intersection over union is at least what is asked for.

    Args:
        found: with scores.
        true: without.
        overlaps: the least intersections over union, in turn.

    Raises:
        WrongInput: boxes found have no scores.
    """
    if found.scores is None:
        raise WrongInput(Problem("boxes", "boxes that are found must have scores", hint="give Boxes(..., scores)"))
    order = found.scores.argsort(descending=True, stable=True)
    labels, truths = found.labels[order].numpy(), true.labels.numpy()
    shared = box_overlaps(found.corners[order].double(), true.corners.double()).numpy()
    shared[labels[:, None] != truths[None, :]] = -1.0
    right = np.zeros((len(overlaps), len(labels)), dtype=np.bool_)
    for row, least in enumerate(overlaps):
        free = np.ones(len(truths), dtype=np.bool_)
        for place in range(len(labels) if len(truths) else 0):
            possible = np.where(free, shared[place], -1.0)
            best = int(possible.argmax())
            if possible[best] >= least:
                right[row, place], free[best] = True, False
    return Matches(found.scores[order].double().numpy(), labels, right, truths)


class AveragePrecision:
    """The mean average precision over classes and overlaps.

    For each class and overlap it is the mean of the precision at 101 recalls from 0 to 1, where the precision at a
    recall is the highest at this or a higher recall (Lin et al., 2014). Classes without a true box do not count; nan if
    there is no true box at all.
    """

    higher_is_better = True

    def __init__(self) -> None:
        self.images: list[Matches] = []

    def reset(self) -> None:
        """Forget all images."""
        self.images = []

    def update(self, images: Sequence[Matches]) -> None:
        """Add images, each with its matches."""
        self.images.extend(images)

    def compute(self) -> float:
        """Return the mean average precision."""
        truths = np.concatenate([image.truths for image in self.images])
        scores = np.concatenate([image.scores for image in self.images])
        labels = np.concatenate([image.labels for image in self.images])
        right = np.concatenate([image.right for image in self.images], axis=1)
        order = np.argsort(-scores, kind="stable")
        labels, right = labels[order], right[:, order]
        found = [
            _precision(row[labels == label], int((truths == label).sum()))
            for label in np.unique(truths)
            for row in right
        ]
        return float(np.mean(found)) if found else float("nan")


def _precision(right: NDArray[np.bool_], num_true: int) -> float:
    """Return the average precision of boxes in the order of their scores."""
    hits = np.cumsum(right)
    recall = hits / num_true
    precision = hits / np.arange(1, len(right) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.append(highest, 0.0)[np.minimum(place, len(right))].mean())


def detection_metric(
    found: Callable[[Any], Sequence[Boxes]],
    true: Callable[[Any], Sequence[Boxes]],
    *,
    overlaps: Sequence[float] | Literal["coco"] = "coco",
) -> Metric:
    """Return the mean average precision as a metric of a task; its interval is a bootstrap over images.

    Args:
        found: ``found(outputs)`` returns what the model finds in each image, see `found_boxes`.
        true: ``true(targets)`` returns the true boxes of each image.
        overlaps: least intersections over union, such as ``[0.5]``; by default 0.5, 0.55, ..., 0.95.
    """
    wanted = COCO_OVERLAPS if isinstance(overlaps, str) else tuple(overlaps)

    def arguments(outputs: Any, targets: Any) -> tuple[list[Matches]]:
        images, truths = found(outputs), true(targets)
        for place, boxes in enumerate(truths):
            require_boxes(boxes, f"true boxes of image {place} of a batch")
        return ([match_boxes(image, truth, wanted) for image, truth in zip(images, truths, strict=True)],)

    return Metric(AveragePrecision(), "max", "share", arguments)
