"""Splits of a data set: their length, their samples, their batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from paretta.pipelines.trees import TensorTree
from paretta.search_spaces.faults import blaming

Samples: TypeAlias = "Dataset[Any]"
Collate: TypeAlias = Callable[[list[Any]], TensorTree]


def num_samples(dataset: Samples) -> int:
    """Return the length of a map-style dataset."""
    return len(cast(Sequence[object], dataset))


def take(dataset: Samples, indices: Tensor, collate: Collate | None = None, *, name: str = "data") -> TensorTree:
    """Return the samples at `indices` [n] as one batch, such as a pair (inputs [n, ...], targets [n, ...]).

    Tensors are indexed at once; other datasets are asked through ``__getitems__`` where they have it.

    Args:
        dataset: map-style, or a Hugging Face dataset.
        indices: [n].
        collate: makes a batch of a list of samples; by default torch's `default_collate`.
        name: the dataset's, for messages.

    Raises:
        WrongInput: reading a sample fails, or the samples make no batch; with the sample's place in the dataset.
    """
    if collate is None and isinstance(dataset, TensorDataset):
        return tuple(tensor[indices] for tensor in dataset.tensors)
    if isinstance(dataset, Subset):
        return take(dataset.dataset, torch.as_tensor(dataset.indices)[indices], collate, name=name)
    positions = indices.tolist()
    samples = read_samples(dataset, positions, name)
    with blaming(lambda: f"{name}[{_odd(positions, samples)}]", "putting it into a batch with others"):
        plain = [as_plain_sample(sample) for sample in samples]
        return default_collate(plain) if collate is None else collate(plain)


def as_plain_sample(sample: object) -> object:
    """Return a dataclass as a mapping of its fields, which torch can collate; all else as it is."""
    if is_dataclass(sample) and not isinstance(sample, type):
        return {item.name: getattr(sample, item.name) for item in fields(sample)}
    return sample


def read_samples(dataset: Samples, positions: Sequence[int], name: str) -> list[Any]:
    """Return the samples at some places as the dataset gives them. Raises `WrongInput` naming the one that fails."""
    if hasattr(dataset, "__getitems__"):
        with blaming(f"{name}[{', '.join(map(str, positions[:8]))}{', ...' * (len(positions) > 8)}]", "reading them"):
            return list(dataset.__getitems__(list(positions)))
    found: list[Any] = []
    with blaming(lambda: f"{name}[{positions[len(found)]}]", "reading it"):
        found.extend(dataset[position] for position in positions)
    return found


def _odd(positions: Sequence[int], samples: Sequence[object]) -> int:
    """Return the place of the first sample that is not like the first of all."""

    def look(sample: object) -> list[object]:
        if isinstance(sample, Mapping):
            return [(key, getattr(part, "shape", type(part))) for key, part in sample.items()]
        parts = sample if isinstance(sample, tuple | list) else [sample]
        return [getattr(part, "shape", type(part)) for part in parts]

    first = look(samples[0])
    return next((p for p, sample in zip(positions, samples, strict=False) if look(sample) != first), positions[0])


def draw(dataset: Samples, count: int, seed: int) -> Tensor:
    """Return `count` different places in `dataset` at random, or all of them where it has fewer, [n]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(num_samples(dataset), generator=generator)[:count]


def places(dataset: Samples, batch_size: int) -> Iterator[Tensor]:
    """Yield the indices of the whole dataset in order, [at most batch_size] at a time."""
    yield from torch.split(torch.arange(num_samples(dataset)), batch_size)
