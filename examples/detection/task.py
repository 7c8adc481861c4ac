"""Where are the emoji, and which kind is each? A one-stage detector on drawn pictures with exact boxes."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from paretta import Task
from paretta.integrations.detection import Boxes, detection_metric, found_boxes

PIXELS, STRIDE = 64, 8
GRID = PIXELS // STRIDE
CLASSES = ("face", "flag", "person")
BACKGROUND = len(CLASSES)
SMALLEST, LARGEST, MOST = 14, 26, 4  # side of an emoji in pixels, number of them in a picture
WEIGHTS = torch.tensor([1.0] * len(CLASSES) + [0.2])  # most cells of the grid are background


class Pictures(Dataset[dict[str, Tensor]]):
    """Pictures with one to four emoji; each is drawn anew whenever it is read, or always alike."""

    def __init__(self, emoji: Sequence[tuple[Path, int]], count: int, *, seed: int | None = None) -> None:
        """Take emoji with their classes; with a seed, each picture is always alike."""
        self.emoji, self.count, self.seed = emoji, count, seed

    def __len__(self) -> int:
        """Return the number of pictures."""
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return ``image`` [3, 64, 64], and for each of 64 cells its class in ``labels`` and box in ``corners``."""
        drawn = int(torch.randint(2**31, ())) if self.seed is None else (self.seed, index)
        generator = np.random.default_rng(drawn)
        picture = np.empty((PIXELS, PIXELS, 3), np.float32)
        picture[:] = generator.uniform(0.2, 0.9, 3) + generator.normal(0, 0.04, (PIXELS, PIXELS, 3))
        labels = torch.full((GRID * GRID,), BACKGROUND)
        corners = torch.zeros(GRID * GRID, 4)
        taken = np.zeros((PIXELS, PIXELS), bool)
        for _ in range(int(generator.integers(1, MOST + 1))):
            path, label = self.emoji[int(generator.integers(len(self.emoji)))]
            box = _paste(picture, taken, path, generator)
            if box is not None:
                left, top, right, bottom = box
                cell = (top + bottom) // 2 // STRIDE * GRID + (left + right) // 2 // STRIDE
                labels[cell], corners[cell] = label, torch.tensor(box, dtype=torch.float32)
        image = torch.from_numpy(((picture.clip(0, 1) - 0.5) / 0.25).transpose(2, 0, 1).copy())
        return {"image": image, "labels": labels, "corners": corners}


def _paste(
    picture: np.ndarray, taken: np.ndarray, path: Path, generator: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """Draw an emoji where nothing is yet and return its exact box; None if there was no place in three tries."""
    side = int(generator.integers(SMALLEST, LARGEST + 1))
    pixels = np.asarray(_opened(path).resize((side, side), Image.Resampling.BILINEAR), np.float32) / 255
    shown = pixels[..., 3] > 0.3
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    for left, top in generator.integers(0, PIXELS - side + 1, (3, 2)).tolist():
        inside = slice(top, top + side), slice(left, left + side)
        if not taken[inside].any():
            taken[inside] = True
            picture[inside] += pixels[..., 3:] * (pixels[..., :3] - picture[inside])
            return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1
    return None


@cache
def _opened(path: Path) -> Image.Image:
    return Image.open(path).convert("RGBA")


class Detector(nn.Module):
    """A YOLO-like detector: for each cell of a grid, scores of the classes and one box around the cell."""

    def __init__(self, width: int = 16) -> None:
        """Make layers; the deepest have four times `width` channels: 98,200 parameters by default."""
        super().__init__()

        def block(given: int, channels: int, stride: int) -> nn.Module:
            convolution = nn.Conv2d(given, channels, 3, stride, 1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())

        self.body = nn.Sequential(
            block(3, width, 2),
            block(width, 2 * width, 2),
            block(2 * width, 4 * width, 2),
            block(4 * width, 4 * width, 1),
            block(4 * width, 4 * width, 1),
        )
        self.classes = nn.Conv2d(4 * width, len(CLASSES) + 1, 1)
        self.sides = nn.Conv2d(4 * width, 4, 1)
        centre = (torch.arange(GRID) + 0.5) * STRIDE
        down, right = torch.meshgrid(centre, centre, indexing="ij")
        self.register_buffer("centres", torch.stack([right, down], dim=2).reshape(1, GRID * GRID, 2), persistent=False)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return ``logits`` [n, cells, classes and background] and ``corners`` [n, cells, 4] in pixels."""
        found = self.body(image)
        sides = F.softplus(self.sides(found).flatten(2).transpose(1, 2)) * STRIDE
        corners = torch.cat([self.centres - sides[..., :2], self.centres + sides[..., 2:]], dim=2)
        return {"logits": self.classes(found).flatten(2).transpose(1, 2), "corners": corners}


def loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Return the cross entropy of all cells, plus one minus the overlap of the boxes of cells that hold an emoji."""
    labels, holds = batch["labels"], batch["labels"] != BACKGROUND
    scores = F.cross_entropy(outputs["logits"].flatten(0, 1), labels.flatten(), WEIGHTS.to(labels.device))
    return scores + (1 - _general_overlap(outputs["corners"][holds], batch["corners"][holds])).mean()


def _general_overlap(found: Tensor, true: Tensor) -> Tensor:
    """Return the generalised intersection over union of box pairs [n, 4] (Rezatofighi et al., 2019), [n]."""
    shared = (torch.minimum(found[:, 2:], true[:, 2:]) - torch.maximum(found[:, :2], true[:, :2])).clamp_min(0).prod(1)
    around = (torch.maximum(found[:, 2:], true[:, 2:]) - torch.minimum(found[:, :2], true[:, :2])).prod(1)
    union = (found[:, 2:] - found[:, :2]).prod(1) + (true[:, 2:] - true[:, :2]).prod(1) - shared
    return shared / union - (around - union) / around


def found(outputs: Mapping[str, Tensor]) -> list[Boxes]:
    """Return what the detector finds in each picture."""
    scores = outputs["logits"].softmax(2)[..., :BACKGROUND]
    return [found_boxes(corners, each) for corners, each in zip(outputs["corners"], scores, strict=True)]


def true(batch: Mapping[str, Tensor]) -> list[Boxes]:
    """Return the true boxes of each picture."""
    rows = zip(batch["corners"], batch["labels"], strict=True)
    return [Boxes(corners[labels != BACKGROUND], labels[labels != BACKGROUND]) for corners, labels in rows]


def make(folder: str = "../emoji/data", train: int = 600, validation: int = 300, width: int = 16) -> Task:
    """Return the task; no emoji is in the pictures of two splits.

    Args:
        folder: with the classes' folders, relative to this file, as ``examples/emoji/fetch.py`` makes it.
        train: number of pictures in an epoch.
        validation: number of pictures in each of the other splits.
        width: of the detector.
    """
    where = Path(__file__).parent / folder
    if not (where / CLASSES[0]).is_dir():
        raise FileNotFoundError(f"no emoji in {where}; run: python examples/emoji/fetch.py")
    emoji = [(path, label) for label, name in enumerate(CLASSES) for path in sorted((where / name).glob("*.png"))]
    parts = [[pair for place, pair in enumerate(emoji) if place % 5 in part] for part in ((0, 1, 2), (3,), (4,))]
    return Task(
        model=lambda: Detector(width),
        train=Pictures(parts[0], train),
        validation=Pictures(parts[1], validation, seed=1),
        test=Pictures(parts[2], validation, seed=2),
        loss=loss,
        metrics={
            "mean_ap": detection_metric(found, true),
            "ap50": detection_metric(found, true, overlaps=[0.5]),
        },
        example_input={"image": torch.zeros(1, 3, PIXELS, PIXELS)},
        class_axis=2,
        ignore_label=None,
    )
