"""A task of your own: a small multi-layer perceptron classifies wines by cultivar."""

from functools import partial

import torch
from sklearn.datasets import load_wine
from torch import nn
from torch.utils.data import TensorDataset, random_split

from paretta import Metric, Task


def make(hidden: int = 64) -> Task:
    """Return the model, the data in three splits, the loss, the metrics and one example input."""
    wine = load_wine()
    x = torch.tensor(wine.data, dtype=torch.float32)
    data = TensorDataset((x - x.mean(0)) / x.std(0), torch.tensor(wine.target))
    train, validation, test = random_split(data, [98, 40, 40], torch.Generator().manual_seed(0))
    return Task(
        model=lambda: nn.Sequential(
            nn.Linear(13, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3)
        ),
        train=train,
        validation=validation,
        test=test,
        loss=nn.functional.cross_entropy,
        metrics={
            "accuracy": Metric(lambda outputs, targets: (outputs.argmax(1) == targets).float()),
            "surprise": Metric(partial(nn.functional.cross_entropy, reduction="none"), goal="min", unit="nats"),
        },
        example_input=data[:1][0],
    )
