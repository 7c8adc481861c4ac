"""Digests that identify a task's data."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import sha256
from itertools import combinations

import torch
from torch import Tensor, nn

from paretta.pipelines.bench import seeded
from paretta.pipelines.data.samples import Collate, Samples, is_plain_tensors, num_samples, take
from paretta.pipelines.data.trees import tensors
from paretta.pipelines.task import SPLITS, Split, Task
from paretta.search_spaces.canonical import canonical_json

DIGEST_SAMPLES = 256
_FEW = 32
_SEED = 0


@lru_cache(maxsize=1)
def data_digest(task: Task) -> str:
    """Return a digest of the three splits, which must not change; cached for the last task.

    The generators of torch, numpy and random are seeded, so that random augmentations are the same in all processes.

    Returns:
        ``stated:<sha256>`` of the lengths and the task's `data_id`, if it has one; ``tensors:<sha256>`` of every byte,
        if all splits are TensorDatasets; otherwise ``samples:<sha256>`` of the lengths and up to 256 evenly spaced
        samples per split. A streamed training split is covered by its length and its sample.
    """
    return _data_digest(task)


def _data_digest(task: Task) -> str:
    whole = task.stream is None and all(is_plain_tensors(task.split(name)) for name in SPLITS)
    digest = sha256()
    if task.stream is not None:
        update_digest(digest.update, torch.tensor(task.stream.num_samples))
    if task.data_id is not None:
        digest.update(canonical_json([task.data_id, [num_samples(task.split(name)) for name in SPLITS]]).encode())
        return f"stated:{digest.hexdigest()}"
    with seeded(_SEED):
        for name in SPLITS:
            for tensor in _digested(task.split(name), f"task.{name}", whole=whole, collate=task.collate):
                update_digest(digest.update, tensor)
    return f"{'tensors' if whole else 'samples'}:{digest.hexdigest()}"


def is_repeatable(task: Task) -> bool:
    """Return whether a few samples are equal in two seeded readings, or the task states a `data_id`."""
    if task.data_id is not None:
        return True
    return all(_few(task, name) == _few(task, name) for name in SPLITS)


def equal_splits(task: Task) -> list[tuple[Split, Split]]:
    """Return the pairs of splits that hold the same samples, judged by their lengths and a few samples."""
    lengths = {name: num_samples(task.split(name)) for name in SPLITS}
    alike = [pair for pair in combinations(SPLITS, 2) if lengths[pair[0]] == lengths[pair[1]]]
    return [(one, other) for one, other in alike if _few(task, one) == _few(task, other)]


def _few(task: Task, name: Split) -> str:
    dataset = task.split(name)
    digest, length = sha256(), num_samples(dataset)
    with seeded(_SEED):
        some = torch.linspace(0, length - 1, min(length, _FEW)).long()
        for tensor in tensors(take(dataset, some, task.collate, name=f"task.{name}")):
            update_digest(digest.update, tensor)
    return digest.hexdigest()


def samples_digest(dataset: Samples, collate: Collate | None = None, *, name: str = "data") -> str:
    """Return the digest of a dataset's content, computed as in `data_digest` (SHA-256, hex)."""
    digest = sha256()
    with seeded(_SEED):
        for tensor in _digested(dataset, name, whole=is_plain_tensors(dataset), collate=collate):
            update_digest(digest.update, tensor)
    return digest.hexdigest()


def update_digest(update: Callable[[bytes], None], tensor: Tensor) -> None:
    """Feed dtype, shape and bytes of `tensor` to a hash's update function."""
    update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


def _digested(dataset: Samples, name: str, *, whole: bool, collate: Collate | None = None) -> Iterator[Tensor]:
    length = num_samples(dataset)
    yield torch.tensor(length)
    if whole and is_plain_tensors(dataset):
        yield from dataset.tensors
    else:
        some = torch.linspace(0, length - 1, min(length, DIGEST_SAMPLES)).long()
        yield from tensors(take(dataset, some, collate, name=name))


def model_digest(model: nn.Module) -> str:
    """Return the digest of a model's modules, parameters and buffers (SHA-256, hex)."""
    state = sha256(repr(model).encode())
    for name, tensor in model.state_dict().items():
        state.update(name.encode())
        update_digest(state.update, tensor)
    return state.hexdigest()
