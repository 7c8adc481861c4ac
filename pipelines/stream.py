"""A training split too large for one machine: in each pass, every rank reads its share batch by batch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from paretta.search_spaces.errors import TrialFailed

Batches: TypeAlias = "Iterator[tuple[Tensor, Tensor]]"
# passes(batch_size, seed) reads this rank's share once, in batches (inputs, targets) of exactly that size
Passes: TypeAlias = Callable[[int, int], Batches]


@dataclass(frozen=True, slots=True)
class Stream:
    """The whole training split of a task, of which `Task.train` is a subset.

    Args:
        dataset: a function without arguments that returns a `ray.data.Dataset`, called on the cluster. The dataset is
            lazy: it may have transformations, but nothing is read yet.
        num_samples: number of samples in the whole split, which is one epoch.
        inputs: the column with the inputs, in the form in which the task's model takes them.
        targets: the column with the targets.
        shuffle: size of each rank's shuffle buffer, in samples; 0 keeps the order of the dataset.
    """

    dataset: Callable[[], object]
    num_samples: int
    inputs: str = "inputs"
    targets: str = "targets"
    shuffle: int = 4096


def steps_of(passes: Passes, batch_size: int, seed: int, num_steps: int) -> Batches:
    """Yield the first `num_steps` batches of one pass.

    Raises `TrialFailed` if the pass has fewer, since the ranks would no longer take the same number of steps.
    """
    step = 0
    for step, batch in enumerate(passes(batch_size, seed), start=1):
        yield batch
        if step == num_steps:
            return
    raise TrialFailed(
        f"stream: a pass ended after {step} of {num_steps} steps; `num_samples` must not be more than the dataset has"
    )
