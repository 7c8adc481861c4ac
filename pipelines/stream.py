"""A training split that no machine holds: read in passes, each rank its share, as batches that arrive one by one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from paretta.search_spaces.errors import TrialFailed

Batches: TypeAlias = "Iterator[tuple[Tensor, Tensor]]"
# passes(batch_size, seed) reads this rank's share once: batches (inputs, targets) of just that size
Passes: TypeAlias = Callable[[int, int], Batches]


@dataclass(frozen=True, slots=True)
class Stream:
    """The whole training split of a task whose `Task.train` is a sample of it.

    Args:
        dataset: a function without arguments that returns a `ray.data.Dataset`, called on the cluster; it names data
            and may map them, and reads nothing yet.
        num_samples: of the whole split; an epoch is this many.
        inputs: the column of one sample's input, as the task's model takes it.
        targets: the column of its target.
        shuffle: how many samples a rank holds to draw from; 0 keeps the order in which they arrive.
    """

    dataset: Callable[[], object]
    num_samples: int
    inputs: str = "inputs"
    targets: str = "targets"
    shuffle: int = 4096


def steps_of(passes: Passes, batch_size: int, seed: int, num_steps: int) -> Batches:
    """Yield the first `num_steps` batches of one pass.

    Raises `TrialFailed` where the pass is shorter, since the ranks would no longer step together.
    """
    step = 0
    for step, batch in enumerate(passes(batch_size, seed), start=1):
        yield batch
        if step == num_steps:
            return
    raise TrialFailed(
        f"stream: a pass ended after {step} of {num_steps} steps; `num_samples` must not be more than the dataset has"
    )
