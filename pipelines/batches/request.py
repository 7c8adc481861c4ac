"""What one batch holds, and how any process reads it."""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from paretta.pipelines.data.samples import Samples, is_plain_subset, is_plain_tensors, take
from paretta.pipelines.data.trees import TensorTree
from paretta.pipelines.task import Split, Task

EVALUATION_BATCH: Final = 256  # samples that are answered at once to judge a model


@dataclass(frozen=True, slots=True, eq=False)
class BatchRequest:
    """The samples of one batch.

    Args:
        split: of the task.
        indices: [n], positions in the split.
        seed: of the samples' random views, see `paretta.pipelines.data.samples.take`.
    """

    split: Split
    indices: Tensor
    seed: int = 0

    def read(self, task: Task) -> TensorTree:
        """Return the batch, collated. Raises `WrongInput` if a sample cannot be read, with its index."""
        dataset, name = task.split(self.split), f"task.{self.split}"
        return take(dataset, self.indices, task.collate, name=name, seed=self.seed)


def is_in_memory(task: Task, split: Split) -> bool:
    """Return whether the split's batches are rows of tensors, which no other process could hand over any faster."""
    dataset: Samples = task.split(split)
    while is_plain_subset(dataset):
        dataset = dataset.dataset
    return task.collate is None and is_plain_tensors(dataset)
