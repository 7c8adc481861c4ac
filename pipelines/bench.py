"""All that a stage may use while it works: task, ranks, its own seed, the teacher, a cache, a progress callback."""

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from paretta.pipelines.ranks import Ranks
from paretta.pipelines.state.cache import Cache
from paretta.pipelines.state.checkpoint import Checkpoint
from paretta.pipelines.state.state_file import State
from paretta.pipelines.stream import Passes
from paretta.pipelines.task import Task
from paretta.search_spaces.results.note import Note

_log = logging.getLogger("paretta")


@dataclass(frozen=True, slots=True)
class TrainingProgress:
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


ProgressReport: TypeAlias = Callable[[TrainingProgress], None]


def silent(_: TrainingProgress) -> None:
    """Ignore the progress."""


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
        cache: what is worth keeping between trials.
        report: told on every rank, with equal values, after each epoch; an exception it raises stops all ranks.
        stage: the kind of the stage at work, for messages.
        checkpoint: where a training keeps its state after each epoch, to go on from it; None: nowhere.
        scored: whether the stage's training tells how good the model is after each epoch.
        passes: read this rank's share of a streamed training split; None where the task has none.
        notes: what the stage left as it was, and why; see `note`.
        is_trial: whether the log is told as well; what is tried before any trial has readers of its own.
    """

    task: Task
    ranks: Ranks
    seed: int = 0
    teacher: nn.Module | None = None
    teacher_key: str = ""
    cache: Cache = field(default_factory=Cache)
    report: ProgressReport = silent
    stage: str = ""
    scored: bool = False
    checkpoint: Checkpoint | None = None
    passes: Passes | None = None
    notes: list[Note] = field(default_factory=list)
    is_trial: bool = True

    def note(self, note: Note) -> None:
        """Keep what a stage says of what it left as it was, each once; the log tells it as a warning.

        Every stage calls this where layers that it was asked to change stay as they are, and where it changes nothing.
        Notes reach the check, the manifest, the journal, the report and MLflow.
        """
        if note not in self.notes:
            self.notes.append(note)
            if self.is_trial:
                _log.warning("%s", note)

    @contextmanager
    def sharing(self, key: str) -> Iterator[Mapping[str, State] | None]:
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
