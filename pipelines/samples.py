"""Splits of a data set: their length, their samples, their batches."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

Samples: TypeAlias = "Dataset[tuple[Tensor, ...]]"


def num_samples(dataset: Samples) -> int:
    """Return the length of a map-style dataset."""
    return len(cast(Sequence[object], dataset))


def take(dataset: Samples, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the batch (inputs [n, ...], targets [n, ...]) of the samples at `indices` [n].

    Tensors are indexed at once; other datasets are asked through ``__getitems__`` where they have it.
    """
    if isinstance(dataset, TensorDataset):
        inputs, targets = (tensor[indices] for tensor in dataset.tensors)
        return inputs, targets
    if isinstance(dataset, Subset):
        return take(dataset.dataset, torch.as_tensor(dataset.indices)[indices])
    positions = indices.tolist()
    if hasattr(dataset, "__getitems__"):
        samples = dataset.__getitems__(positions)
    else:
        samples = [dataset[position] for position in positions]
    inputs, targets = default_collate(samples)
    return inputs, targets


def draw(dataset: Samples, count: int, seed: int) -> Tensor:
    """Return `count` different places in `dataset` at random, or all of them where it has fewer, [n]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(num_samples(dataset), generator=generator)[:count]


def batches(dataset: Samples, batch_size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the whole dataset in order, `batch_size` samples at a time."""
    for start in range(0, num_samples(dataset), batch_size):
        yield take(dataset, torch.arange(start, min(start + batch_size, num_samples(dataset))))
