"""Splits of a data set: their length, their samples, their batches."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from paretta.search_spaces.faults import blaming

Samples: TypeAlias = "Dataset[tuple[Tensor, ...]]"


def num_samples(dataset: Samples) -> int:
    """Return the length of a map-style dataset."""
    return len(cast(Sequence[object], dataset))


def take(dataset: Samples, indices: Tensor, name: str = "data") -> tuple[Tensor, Tensor]:
    """Return the batch (inputs [n, ...], targets [n, ...]) of the samples at `indices` [n].

    Tensors are indexed at once; other datasets are asked through ``__getitems__`` where they have it.

    Raises:
        WrongInput: reading a sample fails, or the samples make no batch; `name`, the dataset's in messages, comes with
            the sample's place in it.
    """
    if isinstance(dataset, TensorDataset):
        inputs, targets = (tensor[indices] for tensor in dataset.tensors)
        return inputs, targets
    if isinstance(dataset, Subset):
        return take(dataset.dataset, torch.as_tensor(dataset.indices)[indices], name)
    positions = indices.tolist()
    samples = read_samples(dataset, positions, name)
    with blaming(lambda: f"{name}[{_odd(positions, samples)}]", "putting it into a batch with others"):
        inputs, targets = default_collate(samples)
    return inputs, targets


def read_samples(dataset: Samples, positions: Sequence[int], name: str) -> list[tuple[object, ...]]:
    """Return the samples at some places as the dataset gives them. Raises `WrongInput` naming the one that fails."""
    if hasattr(dataset, "__getitems__"):
        with blaming(f"{name}[{', '.join(map(str, positions[:8]))}{', ...' * (len(positions) > 8)}]", "reading them"):
            return list(dataset.__getitems__(list(positions)))
    found: list[tuple[object, ...]] = []
    with blaming(lambda: f"{name}[{positions[len(found)]}]", "reading it"):
        found.extend(dataset[position] for position in positions)
    return found


def _odd(positions: Sequence[int], samples: Sequence[Sequence[object]]) -> int:
    """Return the place of the first sample that is not like the first of all."""

    def look(sample: Sequence[object]) -> list[object]:
        return [getattr(part, "shape", type(part)) for part in sample]

    first = look(samples[0])
    return next((p for p, sample in zip(positions, samples, strict=False) if look(sample) != first), positions[0])


def draw(dataset: Samples, count: int, seed: int) -> Tensor:
    """Return `count` different places in `dataset` at random, or all of them where it has fewer, [n]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(num_samples(dataset), generator=generator)[:count]


def batches(dataset: Samples, batch_size: int = 256, name: str = "data") -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the whole dataset in order, `batch_size` samples at a time."""
    for start in range(0, num_samples(dataset), batch_size):
        yield take(dataset, torch.arange(start, min(start + batch_size, num_samples(dataset))), name)
