"""Handwritten digits: 1,797 images of 8 x 8 pixels from scikit-learn, and a small convolutional network."""

from typing import Final

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import Problem, WrongInput

LARGEST: Final = 1024  # of `width` and `hidden`: a model of 23 million weights


class DigitsNet(nn.Module):
    """Two convolutions with batch norm, one hidden layer: [n, 1, 8, 8] pixels to [n, 10] class scores."""

    def __init__(self, *, width: int = 32, hidden: int = 64) -> None:
        super().__init__()
        self.activation = nn.ReLU()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc1 = nn.Linear(2 * width * 2 * 2, hidden)
        self.fc2 = nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Score the ten classes."""
        features = self.activation(self.bn1(self.conv1(images)))
        features = functional.max_pool2d(self.activation(self.bn2(self.conv2(features))), 4)
        scores: Tensor = self.fc2(self.activation(self.fc1(features.flatten(1))))
        return scores


class DigitsPerceptron(nn.Sequential):
    """Hidden layers of equal width on the pixels: [n, 1, 8, 8] to [n, 10] class scores."""

    def __init__(self, *, width: int = 64, depth: int = 2) -> None:
        """Stack `depth` hidden layers of `width` neurons."""
        hidden = [layer for _ in range(depth - 1) for layer in (nn.Linear(width, width), nn.ReLU())]
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), *hidden, nn.Linear(width, 10))


def correct(outputs: Tensor, targets: Tensor) -> Tensor:
    """Score each sample 1 where the highest output is the target class, else 0.

    >>> correct(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])).tolist()
    [1.0, 0.0]
    """
    return (outputs.argmax(1) == targets).float()


def make(*, seed: int = 0, width: int = 32, hidden: int = 64) -> Task:
    """Make the task: 60 % train, 20 % validation, 20 % test, stratified by class.

    Args:
        seed: of the split.
        width: channels of the first convolution; the second has twice as many.
        hidden: neurons of the hidden layer.

    Raises:
        WrongInput: the model would be too large; a delivered folder names these options too, and may be anybody's.
    """
    for name, value in (("width", width), ("hidden", hidden)):
        if value > LARGEST:
            raise WrongInput(Problem(f"task digits: {name}", f"must be at most {LARGEST}", value))
    digits = load_digits()
    pixels = (digits.images[:, np.newaxis] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    train, rest = train_test_split(np.arange(len(labels)), train_size=0.6, random_state=seed, stratify=labels)
    validation, test = train_test_split(rest, train_size=0.5, random_state=seed, stratify=labels[rest])
    splits = [
        TensorDataset(torch.from_numpy(pixels[part]), torch.from_numpy(labels[part]))
        for part in (train, validation, test)
    ]
    return Task(
        model=lambda: DigitsNet(width=width, hidden=hidden),
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        loss=functional.cross_entropy,
        metrics={"accuracy": Metric(correct)},
        example_input=torch.zeros(1, 1, 8, 8),
        variants={"convolutional": DigitsNet, "perceptron": DigitsPerceptron},
    )
