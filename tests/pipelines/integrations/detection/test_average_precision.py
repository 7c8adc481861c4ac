"""Mean average precision equals that of pycocotools; suppression and overlaps equal plain loops."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from paretta.pipelines.integrations.detection.average_precision import AveragePrecision, detection_metric, match_boxes
from paretta.pipelines.integrations.detection.boxes import Boxes, box_overlaps, found_boxes
from paretta.search_spaces.errors import WrongInput

CLASSES = 3
# by pycocotools 2.0.11 on `images(seed)` of seeds 0 to 2: over overlaps from 0.5 to 0.95, and at 0.5 and 0.75
STORED = {
    0: (0.158346, 0.340297, 0.101491),
    1: (0.261914, 0.481766, 0.203873),
    2: (0.194123, 0.35841, 0.190724),
}


def images(seed: int, count: int = 30) -> list[tuple[Boxes, Boxes]]:
    """Boxes found and true boxes: most true ones are found, shifted, some twice, some under another class."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        number = int(generator.integers(0, 5))
        corner = generator.uniform(0, 60, (number, 2))
        true = np.concatenate([corner, corner + generator.uniform(8, 30, (number, 2))], axis=1)
        labels = generator.integers(0, CLASSES, number)
        again = generator.integers(0, 2, number).astype(bool)
        moved = np.concatenate([true, true[again]]) + generator.normal(0, 1.5, (number + again.sum(), 4))
        stray = generator.uniform(0, 60, (3, 2))
        found = np.concatenate([moved, np.concatenate([stray, stray + 15], axis=1)])
        named = np.concatenate([labels, labels[again], generator.integers(0, CLASSES, 3)])
        named = np.where(generator.random(len(named)) < 0.15, (named + 1) % CLASSES, named)
        scores = generator.permutation(len(named) * 100)[: len(named)] / (len(named) * 100)
        made.append((_boxes(found, named, scores), _boxes(true, labels)))
    return made


def _boxes(corners: np.ndarray, labels: np.ndarray, scores: np.ndarray | None = None) -> Boxes:
    return Boxes(
        torch.tensor(corners).reshape(-1, 4), torch.tensor(labels), None if scores is None else torch.tensor(scores)
    )


def precision(pairs: Sequence[tuple[Boxes, Boxes]], overlaps: Sequence[float]) -> float:
    metric = AveragePrecision()
    metric.update([match_boxes(found, true, overlaps) for found, true in pairs])
    return metric.compute()


THRESHOLDS = ([round(0.5 + 0.05 * step, 2) for step in range(10)], [0.5], [0.75])


@pytest.mark.parametrize("seed", STORED)
def test_it_is_what_pycocotools_said(seed: int) -> None:
    found = [precision(images(seed), overlaps) for overlaps in THRESHOLDS]
    assert found == pytest.approx(STORED[seed], abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_it_is_what_pycocotools_says(seed: int) -> None:
    pytest.importorskip("pycocotools")
    found = [precision(images(seed), overlaps) for overlaps in THRESHOLDS]
    assert found == pytest.approx(_by_pycocotools(images(seed)), abs=1e-9)


def _by_pycocotools(pairs: Sequence[tuple[Boxes, Boxes]]) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truths = [
        {"image_id": place, "category_id": int(label), "bbox": _sized(box), "area": 1.0, "iscrowd": 0}
        for place, (_, true) in enumerate(pairs)
        for box, label in zip(true.corners, true.labels, strict=True)
    ]
    found = [
        {"image_id": place, "category_id": int(label), "bbox": _sized(box), "score": float(score)}
        for place, (boxes, _) in enumerate(pairs)
        for box, label, score in zip(boxes.corners, boxes.labels, boxes.scores, strict=True)  # type: ignore[arg-type]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "images": [{"id": place} for place in range(len(pairs))],
            "categories": [{"id": label} for label in range(CLASSES)],
            "annotations": [{**truth, "id": number} for number, truth in enumerate(truths, start=1)],
        }
        known.createIndex()
        judge = COCOeval(known, known.loadRes(found), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return [float(value) for value in judge.stats[:3]]


def _sized(box: torch.Tensor) -> list[float]:
    left, top, right, bottom = box.tolist()
    return [left, top, right - left, bottom - top]


def test_perfect_boxes_score_one_and_strays_in_front_less() -> None:
    true = Boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([1]))
    assert precision([(Boxes(true.corners, true.labels, torch.ones(1)), true)], [0.5, 0.95]) == 1.0
    corners = torch.cat([true.corners + 50, true.corners])
    both = Boxes(corners, torch.tensor([1, 1]), torch.tensor([0.9, 0.8]))
    assert precision([(both, true)], [0.5]) == pytest.approx(0.5)
    nothing = Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert precision([(nothing, true)], [0.5]) == 0.0


def test_overlaps_are_those_of_a_plain_loop() -> None:
    (found, true), *_ = [pair for pair in images(3) if len(pair[1].labels) > 2]
    for row, one in zip(box_overlaps(found.corners, true.corners), found.corners.tolist(), strict=True):
        for value, other in zip(row.tolist(), true.corners.tolist(), strict=True):
            width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
            height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
            areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
            assert value == pytest.approx(width * height / (sum(areas) - width * height))


def test_of_boxes_that_overlap_the_surest_of_its_class_is_found() -> None:
    corners = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [40, 40, 50, 50], [70, 0, 80, 9]])
    scores = torch.tensor([[0.6, 0.0], [0.9, 0.1], [0.1, 0.7], [0.3, 0.2], [0.01, 0.02]])
    found = found_boxes(corners, scores, least=0.05, overlap=0.5)
    assert found.corners.tolist() == [corners[1].tolist(), corners[2].tolist(), corners[3].tolist()]
    assert found.labels.tolist() == [0, 1, 0]
    assert found.scores is not None
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.3])
    assert len(found_boxes(corners, scores, most=2).labels) == 2


@pytest.mark.parametrize(
    ("boxes", "told"),
    [
        (Boxes(torch.tensor([[5.0, 5.0, 3.0, 9.0]]), torch.tensor([0])), "box 0 must have left < right.*not a size"),
        (Boxes(torch.zeros(2, 5), torch.zeros(2)), r"boxes must be \[n, 4\].*; got \[2, 5\]"),
        (Boxes(torch.tensor([[0.0, 0.0, 3.0, 9.0]]), torch.zeros(2)), "a label for each of 1 boxes"),
    ],
)
def test_true_boxes_that_are_none_are_told(boxes: Boxes, told: str) -> None:
    metric = detection_metric(lambda outputs: [], lambda targets: [boxes])
    assert metric.arguments is not None
    with pytest.raises(WrongInput, match=told):
        metric.arguments(None, None)
