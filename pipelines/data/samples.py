"""Read samples and batches from the splits of a data set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any, TypeAlias, TypeGuard, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from paretta.pipelines.data.generators import GeneratorStates, generators_kept, seed_generators
from paretta.pipelines.data.trees import TensorTree
from paretta.search_spaces.faults import blaming

Samples: TypeAlias = "Dataset[Any]"
Collate: TypeAlias = Callable[[list[Any]], TensorTree]


def num_samples(dataset: Samples) -> int:
    """Return the length of a map-style dataset."""
    return len(cast(Sequence[object], dataset))


def is_plain_tensors(dataset: object) -> TypeGuard[TensorDataset]:
    """Return whether `dataset` is a `TensorDataset` with its rows as samples; False for subclasses that change them."""
    return isinstance(dataset, TensorDataset) and _reads_like(dataset, TensorDataset)


def is_plain_subset(dataset: object) -> "TypeGuard[Subset[Any]]":
    """Return whether `dataset` is a `Subset` whose samples are unchanged; False for a subclass that changes them."""
    return isinstance(dataset, Subset) and _reads_like(dataset, Subset)


def _reads_like(dataset: object, kind: type) -> bool:
    methods = ("__getitem__", "__getitems__")
    return all(getattr(type(dataset), name, None) is getattr(kind, name, None) for name in methods)


def take(
    dataset: Samples,
    indices: Tensor,
    collate: Collate | None = None,
    *,
    name: str = "data",
    seed: int | None = None,
) -> TensorTree:
    """Return the samples at `indices` [n] as one batch, such as a pair (inputs [n, ...], targets [n, ...]).

    Tensors are indexed in one call, unless a subclass of TensorDataset changes its samples; other datasets are read
    through ``__getitems__`` if they have it.

    With a `seed`, every sample is read under a seed of its own, which follows from `seed` and its index, and the batch
    is collated under that of its first sample. So random views of a sample depend neither on the process that reads it
    nor on the samples read before it. The global generators are afterwards as they were.

    Args:
        dataset: map-style, or a Hugging Face dataset.
        indices: [n].
        collate: makes a batch from a list of samples; by default torch's `default_collate`.
        name: of the dataset, for messages.
        seed: of the random views; None draws them from the global generators.

    Raises:
        WrongInput: a sample cannot be read, or the samples cannot be collated; the message has the sample's index.
    """
    told = indices.tolist()
    while is_plain_subset(dataset):
        indices = torch.as_tensor(dataset.indices)[indices]
        dataset = dataset.dataset
    if collate is None and is_plain_tensors(dataset):
        return tuple(tensor[indices] for tensor in dataset.tensors)
    positions = indices.tolist()
    if seed is None:
        return _collated(read_samples(dataset, positions, name, told=told), told, collate, name)
    with generators_kept():
        samples = _read_seeded(dataset, positions, name, seed, told)
        seed_generators(_seed_of(seed, positions[0] if positions else 0))
        return _collated(samples, told, collate, name)


def _collated(samples: list[Any], told: Sequence[int], collate: Collate | None, name: str) -> TensorTree:
    with blaming(lambda: f"{name}[{_odd(told, samples)}]", "putting it into a batch with others"):
        plain = [as_plain_sample(sample) for sample in samples]
        return default_collate(plain) if collate is None else collate(plain)


def as_plain_sample(sample: object) -> object:
    """Return a dataclass as a mapping of its fields, which torch can collate; anything else unchanged."""
    if is_dataclass(sample) and not isinstance(sample, type):
        return {item.name: getattr(sample, item.name) for item in fields(sample)}
    return sample


def read_samples(
    dataset: Samples, positions: Sequence[int], name: str, *, told: Sequence[int] | None = None
) -> list[Any]:
    """Return the samples at `positions`, uncollated; `told` are the indices for messages, by default the positions.

    Raises `WrongInput` naming what cannot be read.
    """
    told = positions if told is None else told
    if hasattr(dataset, "__getitems__"):
        with blaming(f"{name}[{', '.join(map(str, told[:8]))}{', ...' * (len(told) > 8)}]", "reading them"):
            return list(dataset.__getitems__(list(positions)))
    found: list[Any] = []
    with blaming(lambda: f"{name}[{told[len(found)]}]", "reading it"):
        found.extend(dataset[position] for position in positions)
    return found


def _read_seeded(dataset: Samples, positions: Sequence[int], name: str, seed: int, told: Sequence[int]) -> list[Any]:
    """Return the samples, each read under its own seed.

    ``__getitems__`` reads a whole batch at once as long as it draws nothing at random.
    """
    if hasattr(dataset, "__getitems__") and len(positions) > 1:
        seed_generators(_seed_of(seed, positions[0]))
        before = GeneratorStates.now()
        found = read_samples(dataset, positions, name, told=told)
        if before.is_now():
            return found
    samples = []
    for position, index in zip(positions, told, strict=True):
        seed_generators(_seed_of(seed, position))
        samples += read_samples(dataset, [position], name, told=[index])
    return samples


def _seed_of(seed: int, position: int) -> int:
    return int.from_bytes(sha256(f"{seed} {position}".encode()).digest()[:8], "big") >> 1


def _odd(positions: Sequence[int], samples: Sequence[object]) -> int:
    """Return the position of the first sample whose shapes or types differ from those of the first sample."""

    def look(sample: object) -> list[object]:
        if isinstance(sample, Mapping):
            return [(key, getattr(part, "shape", type(part))) for key, part in sample.items()]
        parts = sample if isinstance(sample, tuple | list) else [sample]
        return [getattr(part, "shape", type(part)) for part in parts]

    first = look(samples[0])
    return next((p for p, sample in zip(positions, samples, strict=False) if look(sample) != first), positions[0])


def draw(dataset: Samples, count: int, seed: int) -> Tensor:
    """Return the indices [n] of `count` random samples without replacement, or of all samples if there are fewer."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(num_samples(dataset), generator=generator)[:count]


def places(dataset: Samples, batch_size: int) -> Iterator[Tensor]:
    """Yield the indices of the whole dataset in order, in batches [at most batch_size]."""
    yield from torch.split(torch.arange(num_samples(dataset)), batch_size)
