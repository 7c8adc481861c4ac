"""A task whose samples are random views, made by name as loaders make it."""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from paretta.pipelines.task import Metric, Task

SAMPLES = 24


class Views(Dataset[tuple[Tensor, int]]):
    """Samples that draw from each of the three generators."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        drawn = [torch.rand(()).item(), random.random(), float(np.random.rand())]
        return torch.tensor([float(index), *drawn]), index % 2


class ViewsInBatches(Views):
    """The same samples, read together."""

    calls: list[int] = []  # noqa: RUF012 - counts the calls of one test

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        self.calls.append(len(indices))
        return [self[index] for index in indices]


class Plain(Views):
    """Samples without draws, each from a file's own position."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((4,), float(index)), index % 2


class Broken(Views):
    """Sample 13 cannot be read."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 13:
            raise ValueError("no such file")
        return super().__getitem__(index)


class Dying(Views):
    """Sample 13 kills a loader, and is read in the training process."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 13 and os.getpid() != self.parent:
            os._exit(9)
        return super().__getitem__(index)


def task_of(data: Dataset[Any]) -> Task:
    metrics = {"accuracy": Metric(lambda scores, labels: (scores.argmax(1) == labels).double())}
    return Task(lambda: nn.Linear(4, 2), data, data, data, functional.cross_entropy, metrics, torch.zeros(1, 4))


def make() -> Task:
    return task_of(Views())


def make_broken() -> Task:
    return task_of(Broken())


def make_with_trace(made: str | Path) -> Task:
    """Make the task and say so in a file, to count how often it is made."""
    with Path(made).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    return make()


def make_dying(parent: int) -> Task:
    return task_of(Dying(parent))
