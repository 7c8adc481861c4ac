"""The bench: what a stage may use, such as the task, ranks, a seed, the teacher, a cache and a progress callback."""

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

from paretta.pipelines.batches.loaders import Loaders
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
    """A stage's report after an epoch.

    Args:
        stage: the kind of the stage.
        epoch: from 1.
        num_epochs: number of epochs of the stage.
        loss: mean over the epoch's global batches.
        seconds: since the stage started training.
        scores: by metric, of the current model on the validation split; only if the bench is `scored`.
        samples_per_second: of the epoch's training on all ranks together, without scoring.
        gradient_norm: mean norm of the global gradient before clipping, over every 16th step of the epoch.
        shares: of the epoch's time on this rank: ``loading`` (waiting for batches), ``computing`` (forward, backward
            and the optimiser's step, with the communication that overlaps them), ``communication`` (waiting for other
            ranks) and ``measuring`` (the validation split).
        loaders: number of processes that read this rank's batches ahead; None if the split is held in tensors, or is
            streamed.
    """

    stage: str
    epoch: int
    num_epochs: int
    loss: float
    seconds: float
    scores: Mapping[str, float] = field(default_factory=dict)
    samples_per_second: float = 0.0
    gradient_norm: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)
    loaders: int | None = None


ProgressReport: TypeAlias = Callable[[TrainingProgress], None]


def silent(_: TrainingProgress) -> None:
    """Ignore the progress."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a stage receives besides the model.

    Args:
        task: the user's model, data, loss and metrics.
        ranks: the workers of this trial.
        seed: this stage's own seed, derived from the trial's seed and the plan up to this stage, so that a stage gives
            the same result whether earlier stages were computed or fetched from the cache.
        teacher: the trained uncompressed model in evaluation mode; None in the baseline's own stages.
        teacher_key: identifies the teacher's weights and data by content, for caching its outputs.
        cache: results shared between trials.
        report: called on every rank with equal values after each epoch; an exception it raises stops all ranks.
        stage: the kind of the current stage, for messages.
        checkpoint: where a training stores its state after each epoch, to continue from it; None: nowhere.
        scored: whether the stage's training reports scores after each epoch.
        passes: reads this rank's share of a streamed training split; None if the task has none.
        loaders: read the batches of the task's splits, in this process by default.
        notes: what the stage left unchanged, and why; see `note`.
        is_trial: whether notes are also logged; what runs before any trial reports them in other ways.
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
    loaders: Loaders = field(default_factory=Loaders)
    notes: list[Note] = field(default_factory=list)
    is_trial: bool = True

    def note(self, note: Note) -> None:
        """Record what a stage left unchanged, each note once; in a trial it is also logged as a warning.

        Every stage calls this if layers that it was asked to change stay unchanged, and if it changes nothing. Notes
        are shown in the check, the manifest, the journal, the report and MLflow.
        """
        if note not in self.notes:
            self.notes.append(note)
            if self.is_trial:
                _log.warning("%s", note)

    @contextmanager
    def sharing(self, key: str) -> Iterator[Mapping[str, State] | None]:
        """Yield the cache entry `key` if every rank has it, otherwise None: then compute and store it (collective).

        Only one run computes it inside the block; others that need it wait until that one is done.
        """
        known = self.cache.fetch(key)
        if not self.ranks.any(known is None):
            yield known
            return
        with self.cache.claimed(key) if self.ranks.is_first else nullcontext():
            self.ranks.barrier()  # rank 0 has waited for other runs that were computing the entry; look again
            known = self.cache.fetch(key)
            yield None if self.ranks.any(known is None) else known


def derived_seed(seed: int, *names: str) -> int:
    """Return a 63-bit seed derived from `seed` and every name by SHA-256.

    >>> derived_seed(0, "a") == derived_seed(0, "a"), derived_seed(0, "a") == derived_seed(0, "b")
    (True, False)
    """
    text = "\0".join([str(seed), *names])
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, numpy and random inside the block, and restore their states after it."""
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
