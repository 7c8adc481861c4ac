"""The emoji of ``examples/emoji`` with a ResNet-8 in place of that example's network."""

import sys
from pathlib import Path

from benchmarks.networks import resnet_8
from paretta import Task
from paretta.integrations.images import FlipAndShift, ImagePreprocessing, image_folder_task

EXAMPLE = Path(__file__).parents[2] / "examples" / "emoji"
PIXELS = 32


def make() -> Task:
    """Return the task: 1,049 pictures of 32 x 32 pixels in four classes."""
    folder = EXAMPLE / "data"
    if not folder.is_dir():
        raise FileNotFoundError(f"no emoji in {folder}; run: {sys.executable} {EXAMPLE / 'fetch.py'}")
    return image_folder_task(
        folder,
        lambda num_classes: resnet_8(colours=3, num_classes=num_classes),
        preprocessing=ImagePreprocessing(size=(PIXELS, PIXELS), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        view=FlipAndShift(flip=True, shift=0.12),
    )
