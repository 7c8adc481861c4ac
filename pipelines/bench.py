"""All that a stage may use while it works: task, ranks, its own seed, the teacher, a cache, a progress callback."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipelines.checkpoint import Checkpoint
from pipelines.ranks import Ranks
from pipelines.task import Task


@dataclass(frozen=True, slots=True)
class Progress:
    """What a stage tells after an epoch.

    Args:
        stage: its kind.
        epoch: from 1.
        num_epochs: of the stage.
        loss: mean over the epoch's global batches.
        seconds: since the stage began to train.
        scores: by metric, of the model as it is now on the validation split; only where the bench asks for them.
    """

    stage: str
    epoch: int
    num_epochs: int
    loss: float
    seconds: float
    scores: Mapping[str, float] = field(default_factory=dict)


Report: TypeAlias = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Ignore the progress."""


@dataclass(frozen=True, slots=True)
class Cache:
    """Named tensors by key, kept in this process and, where a folder is given, in one .safetensors file a key.

    Args:
        folder: where files go; None keeps tensors in memory only.
        memory: what this process has seen already; one Cache object shared by many runs spares them the files.
    """

    folder: Path | None = None
    memory: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def fetch(self, key: str) -> Mapping[str, Tensor] | None:
        """Return the tensors stored under `key`, or None."""
        path = self._path(key)
        if key not in self.memory and path is not None and path.exists():
            self.memory[key] = load_file(path)
        return self.memory.get(key)

    def store(self, key: str, tensors: Mapping[str, Tensor], *, write: bool = True) -> None:
        """Keep `tensors` under `key`; readers see the whole file or none. `write` is for one rank of a group."""
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        self.memory[key] = copies
        path = self._path(key)
        if path is None or not write:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{random.SystemRandom().getrandbits(48):012x}.part")
        save_file(copies, partial)
        partial.replace(path)

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key}.safetensors"


@dataclass(frozen=True, slots=True)
class Bench:
    """What one stage gets beside the model.

    Args:
        task: the user's model, data, loss and metrics.
        ranks: the workers of this trial.
        seed: this stage's own seed, made from the trial's seed and the plan up to this stage, so that a stage gives
            the same result whether the stages before it were computed or fetched from the cache.
        teacher: the trained uncompressed model in evaluation mode; None while the baseline itself is made.
        teacher_key: names the teacher's weights and data by content, for caching what it says.
        cache: tensors worth keeping between trials.
        report: told on every rank, with equal values, after each epoch; an exception it raises stops all ranks.
        stage: the kind of the stage at work, for messages.
        checkpoint: where a training keeps its state after each epoch, to go on from it; None: nowhere.
        scored: whether the stage's training tells how good the model is after each epoch.
    """

    task: Task
    ranks: Ranks
    seed: int = 0
    teacher: nn.Module | None = None
    teacher_key: str = ""
    cache: Cache = field(default_factory=Cache)
    report: Report = silent
    stage: str = ""
    scored: bool = False
    checkpoint: Checkpoint | None = None


def derived_seed(seed: int, *names: str) -> int:
    """Return a 63-bit seed that depends on `seed` and every name, by SHA-256.

    >>> derived_seed(0, "a") == derived_seed(0, "a"), derived_seed(0, "a") == derived_seed(0, "b")
    (True, False)
    """
    text = "\0".join([str(seed), *names])
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, numpy and random inside the block, and give their states back after it."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
