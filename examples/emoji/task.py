"""Which kind of emoji is it? An image classifier on a folder of PNG files, a folder for each class."""

from pathlib import Path

from torch import nn

from paretta import Task
from paretta.integrations.images import FlipAndShift, ImagePreprocessing, image_folder_task

PIXELS = 32


def make(folder: str = "data", width: int = 24) -> Task:
    """Return the task; a digest of an emoji's code decides its split.

    Args:
        folder: with the classes' folders, relative to this file.
        width: channels of the first layer.
    """
    where = Path(__file__).parent / folder
    if not where.is_dir():
        raise FileNotFoundError(f"no emoji in {where}; run: python {Path(__file__).with_name('fetch.py')}")
    return image_folder_task(
        where,
        lambda num_classes: network(num_classes, width),
        preprocessing=ImagePreprocessing(size=(PIXELS, PIXELS), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        view=FlipAndShift(flip=True, shift=0.12),
    )


def network(num_classes: int, width: int) -> nn.Module:
    """Return six convolutions with norms: 188,380 parameters with a width of 24 and four classes."""

    def block(given: int, channels: int, stride: int) -> nn.Module:
        convolution = nn.Conv2d(given, channels, 3, stride, 1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())

    return nn.Sequential(
        block(3, width, 2),
        block(width, width + 8, 1),
        block(width + 8, 2 * width, 2),
        block(2 * width, 2 * width + 16, 1),
        block(2 * width + 16, 4 * width, 2),
        block(4 * width, 4 * width, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, num_classes),
    )
