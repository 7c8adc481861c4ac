"""Digests that identify a task's data."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import sha256

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from paretta.pipelines.samples import Samples, num_samples, take
from paretta.pipelines.task import SPLITS, Task

DIGEST_SAMPLES = 256


@lru_cache(maxsize=1)
def data_digest(task: Task) -> str:
    """Name the content of the three splits, which must not change; remembered for the last task asked about.

    Returns:
        ``tensors:<sha256>`` where every byte was read (all splits are TensorDatasets), otherwise ``samples:<sha256>``,
        which covers the lengths and up to 256 evenly spaced samples a split. Of a streamed training split it covers the
        length and the sample of it.
    """
    whole = task.stream is None and all(isinstance(task.split(name), TensorDataset) for name in SPLITS)
    digest = sha256()
    if task.stream is not None:
        update_digest(digest.update, torch.tensor(task.stream.num_samples))
    for name in SPLITS:
        for tensor in _digested(task.split(name), whole=whole):
            update_digest(digest.update, tensor)
    return f"{'tensors' if whole else 'samples'}:{digest.hexdigest()}"


def samples_digest(dataset: Samples) -> str:
    """Name a dataset's content as `data_digest` does (SHA-256, hex)."""
    digest = sha256()
    for tensor in _digested(dataset, whole=isinstance(dataset, TensorDataset)):
        update_digest(digest.update, tensor)
    return digest.hexdigest()


def update_digest(update: Callable[[bytes], None], tensor: Tensor) -> None:
    """Feed dtype, shape and bytes of `tensor` to a hash's update function."""
    update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


def _digested(dataset: Samples, *, whole: bool) -> Iterator[Tensor]:
    length = num_samples(dataset)
    yield torch.tensor(length)
    if whole and isinstance(dataset, TensorDataset):
        yield from dataset.tensors
    else:
        yield from take(dataset, torch.linspace(0, length - 1, min(length, DIGEST_SAMPLES)).long())
