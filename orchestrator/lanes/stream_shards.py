"""Stream a training split with Ray Data: the dataset of a lane's trainer, and each worker's passes over its shard."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, cast

from paretta.orchestrator.config.task_reference import TaskReference
from paretta.search_spaces.errors import TrialFailed

if TYPE_CHECKING:
    from ray.data import Dataset

    from paretta.pipelines.stream import Batches, Passes, Stream  # which imports torch

NAME: Final = "train"
BATCH_S: Final = 300.0  # the longest wait for one batch
_READER_CPUS: Final = 1.0


def cpus_beside(*, streams: bool) -> float:
    """Return the CPUs that a lane needs beside its workers: one to read a stream, which would otherwise stall."""
    return _READER_CPUS if streams else 0.0


def source_of(task: TaskReference) -> "Callable[[], Dataset]":
    """Return a function that opens the task's streamed training split on the cluster."""

    def open_stream() -> "Dataset":
        stream = task.load().stream
        assert stream is not None
        return cast("Dataset", stream.dataset())

    return open_stream


def passes_of(stream: "Stream") -> "Passes":
    """Return this Train worker's passes over its shard."""
    from ray.train import get_dataset_shard  # noqa: PLC0415 - only workers need Ray Train

    shard = get_dataset_shard(NAME)
    if shard is None:
        raise TrialFailed("stream: this task can be trained only by the workers of a cluster")

    def passes(batch_size: int, seed: int) -> "Batches":
        batches = shard.iter_torch_batches(
            batch_size=batch_size,
            drop_last=True,
            local_shuffle_buffer_size=max(stream.shuffle, batch_size) if stream.shuffle else None,
            local_shuffle_seed=seed % 2**32,
        )
        for batch in _within(BATCH_S, cast("Iterator[Mapping[str, object]]", iter(batches))):
            yield batch[stream.inputs], batch[stream.targets]  # type: ignore[misc]

    return passes


def _within(limit_s: float, batches: "Iterator[Mapping[str, object]]") -> "Iterator[Mapping[str, object]]":
    """Yield the batches, each read while the one before is used; raise `TrialFailed` if one does not arrive in time."""
    reader = ThreadPoolExecutor(1, thread_name_prefix="paretta-reader")
    try:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result(limit_s)) is not None:
            coming = reader.submit(next, batches, None)
            yield batch
    except TimeoutError:
        raise TrialFailed(f"stream: no batch arrived within {limit_s:g} s") from None
    finally:
        reader.shutdown(wait=False)
