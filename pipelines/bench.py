"""All that a stage may use while it works: task, ranks, its own seed, the teacher, a cache, a progress callback."""

import fcntl
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
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

    A key names content: equal keys hold equal tensors. What was used longest ago goes first where space runs out.

    Args:
        folder: where files go, seen by all nodes; None keeps tensors in memory only.
        memory: what this process has seen already; one Cache object shared by many runs spares them the files.
        largest_files, largest_memory: bytes that all files, and all tensors in memory, may take.
    """

    folder: Path | None = None
    memory: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)
    largest_files: int = 8 * 2**30
    largest_memory: int = 2**30

    def fetch(self, key: str) -> Mapping[str, Tensor] | None:
        """Return the tensors stored under `key`, or None."""
        path = self._path(key)
        if key not in self.memory and path is not None and path.exists():
            try:
                self._remember(key, load_file(path))
                os.utime(path)
            except (SafetensorError, OSError):
                return None  # damaged, or another process evicted it: it is made again
        return self.memory.get(key)

    def store(self, key: str, tensors: Mapping[str, Tensor], *, write: bool = True) -> None:
        """Keep `tensors` under `key`; readers see the whole file or none. `write` is for one rank of a group."""
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        self._remember(key, copies)
        path = self._path(key)
        if path is None or not write:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{random.SystemRandom().getrandbits(48):012x}.part")
        try:
            save_file(copies, partial)
            partial.replace(path)
        except (SafetensorError, OSError):
            partial.unlink(missing_ok=True)  # a full disk costs the sharing, not the trial
        self._evict(path)

    @contextmanager
    def claimed(self, key: str) -> Iterator[None]:
        """Hold the right to make what `key` names, so that it is made once; others that claim it wait here.

        The right falls free with the process, however it ends. In memory alone there is nobody to wait for.
        """
        path = self._path(key)
        if path is None:
            yield
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".claim").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _remember(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        self.memory[key] = tensors
        while len(self.memory) > 1 and sum(map(_bytes, self.memory.values())) > self.largest_memory:
            del self.memory[next(iter(self.memory))]

    def _evict(self, newest: Path) -> None:
        """Remove the files used longest ago until the rest fits."""
        files = []
        for file in newest.parent.glob("*.safetensors"):
            try:
                files.append((file.stat().st_mtime, file.stat().st_size, file))
            except FileNotFoundError:
                continue  # another process was faster
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total <= self.largest_files or file == newest:
                break
            file.unlink(missing_ok=True)
            total -= size

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key}.safetensors"


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


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

    @contextmanager
    def sharing(self, key: str) -> Iterator[Mapping[str, Tensor] | None]:
        """Yield what the cache has under `key` on every rank, or None: then make and store it inside (collective).

        Only one run makes it; others that ask for it meanwhile wait until that one is done.
        """
        known = self.cache.fetch(key)
        if not self.ranks.any(known is None):
            yield known
            return
        with self.cache.claimed(key) if self.ranks.is_first else nullcontext():
            self.ranks.barrier()  # the first rank has waited for others to make it; only now is it known
            known = self.cache.fetch(key)
            yield None if self.ranks.any(known is None) else known


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
