"""A training batch: one rank's part of a global batch, and its parts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from paretta.pipelines.data.trees import TensorTree, mapped, moved, num_rows, tree_rows
from paretta.pipelines.losses.class_scores import num_counted
from paretta.pipelines.losses.global_loss import Shares
from paretta.pipelines.task import Task


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's part of a global batch.

    Args:
        inputs: what the model is called with, a tree of [n, ...].
        targets: what the loss takes after the outputs, a tree of [n, ...].
        indices: [n], positions in the train split; empty if it is streamed.
        shares: its weight in the global batch.
    """

    inputs: TensorTree
    targets: TensorTree
    indices: Tensor
    shares: Shares = field(default_factory=Shares)

    def in_parts(self, task: Task, count: int) -> "Iterator[Batch]":
        """Yield `count` batches that hold its samples in order, and whose shares add up to its own."""
        num_samples = num_rows(self.targets)
        for rows in torch.tensor_split(torch.arange(num_samples), count):
            targets = tree_rows(self.targets, rows)
            here, samples = num_counted(task, targets), self.shares.samples * len(rows) / num_samples
            labels = self.shares.labels * here / max(self.shares.num_labels, 1)
            indices = self.indices[rows] if len(self.indices) else self.indices
            yield Batch(tree_rows(self.inputs, rows), targets, indices, Shares(samples, labels, here))

    def on(self, device: torch.device, *, channels_last: bool = False) -> "Batch":
        """Return it on `device`, images channels-last if asked for."""
        inputs = moved(self.inputs, device)
        if channels_last:
            inputs = mapped(_channels_last, inputs)
        return Batch(inputs, moved(self.targets, device), self.indices, self.shares)


BatchLoss: TypeAlias = Callable[[TensorTree, Batch], Tensor]


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
