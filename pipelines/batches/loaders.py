"""Processes that read and collate batches ahead of the training, by torch's DataLoader."""

import logging
import math
import multiprocessing
import pickle
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import torch
from torch.utils.data import DataLoader, Dataset

from paretta.pipelines.batches.request import BatchRequest, is_in_memory
from paretta.pipelines.data.trees import TensorTree
from paretta.pipelines.task import Task
from paretta.search_spaces.errors import Problem, WrongInput, first_line
from paretta.search_spaces.faults import blaming

_log = logging.getLogger("paretta")

# `auto` starts loaders once reading has cost as much as their start does, so that it never costs more than twice the
# best choice; four loaders started within 2 to 6 s on two cores (benchmarks/training/loading.py)
START_S: Final = 4.0
WAITING_LOADERS: Final = 8  # loaders of `auto` where reading mostly waits, which takes no core
MOST_LOADERS: Final = 16  # of `auto`, per worker
_AHEAD: Final = 2  # batches that each loader reads ahead


class LoaderTrace(Exception):
    """The cause of an error in a loader: its message is the traceback there."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """What a loader hands over in place of a batch that it could not read."""

    problems: tuple[Problem, ...]
    trace: str


class _SplitsOfTask(Dataset[Any]):
    """The data set that DataLoader sees: its indices are requests, its samples are batches."""

    def __init__(self, make: Callable[[], Task]) -> None:
        self.make = make
        self.task: Task | None = None

    def __getitem__(self, request: BatchRequest) -> object:
        try:
            if self.task is None:
                with blaming("task", "making it in a loader"):
                    self.task = self.make()
            return request.read(self.task)
        except WrongInput as error:
            cause = error.__cause__ or error
            return _Failed(error.problems, "".join(traceback.format_exception(cause)))


class _Requests:
    """The sampler that DataLoader draws from: the requests of the current pass, those unanswered kept in order."""

    def __init__(self) -> None:
        self.coming: Iterator[BatchRequest] = iter(())
        self.unanswered: deque[BatchRequest] = deque()

    def __iter__(self) -> Iterator[BatchRequest]:
        self.unanswered = deque()
        return self._drawn(self.coming, self.unanswered)

    @staticmethod
    def _drawn(coming: Iterator[BatchRequest], unanswered: deque[BatchRequest]) -> Iterator[BatchRequest]:
        for request in coming:
            unanswered.append(request)
            yield request


@dataclass(slots=True)
class _Spent:
    """Time spent reading in the training process: wall seconds, CPU seconds, and seconds between two reads."""

    reading: float = 0.0
    computing: float = 0.0
    between: float = 0.0


class Loaders:
    """Reads batches, in this process or in loader processes that serve until the object is closed.

    Batches are the same either way and for any number of loaders, because every sample is read under its own seed.
    Loaders are forked from a clean process, not from this one, whose threads may hold locks. Each makes the task
    itself, as every worker does, so nothing is pickled and no open file is shared; what the task holds in memory, each
    loader holds too. Splits of tensors in memory are always read here.

    If a loader dies, for example because shared memory is full, reading goes on in this process with a warning.

    Args:
        make: makes the task; it must be possible to pickle it, such as a function of a module. None: no loaders.
        count: number of loaders; None decides by what reading costs, and starts none where that is little.
        free: cores that nothing else uses, for a `count` of None.
        pinned: whether batches are put into page-locked memory, from which a GPU copies faster.
        preload: modules that loaders will import, to import them once.
    """

    def __init__(
        self,
        make: Callable[[], Task] | None = None,
        count: int | None = 0,
        *,
        free: int = 0,
        pinned: bool = False,
        preload: Sequence[str] = (),
    ) -> None:
        self.make, self.count, self.free, self.pinned = make, count, free, pinned
        self.preload = ("torch", __name__, *preload)
        self._requests, self._spent = _Requests(), _Spent()
        self._loader: DataLoader[Any] | None = None

    @property
    def running(self) -> int:
        """Number of loaders that have been started."""
        return 0 if self._loader is None else self._loader.num_workers

    def read(self, task: Task, requests: Iterable[BatchRequest]) -> Iterator[tuple[BatchRequest, TensorTree]]:
        """Yield every request with its batch, in order.

        Args:
            task: what `make` makes; whatever else is read in this process.
            requests: all of one split.

        Raises:
            WrongInput: a sample cannot be read, or samples cannot be collated; with the sample's index.
        """
        rest = iter(requests)
        for request in rest:
            if self._starts(task, request):
                yield from self._read_ahead(task, chain([request], rest))
                return
            batch, begun = self._read_here(task, request), time.perf_counter()
            yield request, batch
            self._spent.between += time.perf_counter() - begun

    def close(self) -> None:
        """End the loaders; the next pass may start new ones."""
        self._loader = None  # DataLoader ends its processes when it is collected
        self._requests = _Requests()

    def _read_here(self, task: Task, request: BatchRequest) -> TensorTree:
        spent, wall, cpu = self._spent, time.perf_counter(), time.thread_time()
        try:
            return request.read(task)
        finally:
            spent.reading += time.perf_counter() - wall
            spent.computing += time.thread_time() - cpu

    def _starts(self, task: Task, request: BatchRequest) -> bool:
        """Return whether loaders run, or start now."""
        if self.make is None or self.count == 0 or is_in_memory(task, request.split):
            return False
        if self._loader is not None:
            return True
        if self.count is None and self._spent.reading < START_S:
            return False
        return self._start(self.count if self.count is not None else self._worthwhile())

    def _worthwhile(self) -> int:
        """Return how many loaders keep up with the training, within the free cores unless reading mostly waits."""
        spent = self._spent
        waits = spent.computing < spent.reading / 2
        room = max(self.free, WAITING_LOADERS) if waits else self.free
        needed = math.ceil(spent.reading / max(spent.between, 1e-3)) + 1
        return min(needed, room, MOST_LOADERS)

    def _start(self, count: int) -> bool:
        if count == 0:
            self.count = 0  # decided once
            return False
        try:
            pickle.dumps(self.make)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            self._give_up(f"a loader must be able to make the task: {first_line(error)}")
            return False
        assert self.make is not None
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(self.preload))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of more loaders than cores, which is right for a slow store
            self._loader = DataLoader(
                _SplitsOfTask(self.make),
                sampler=self._requests,
                batch_size=None,
                collate_fn=_unchanged,
                num_workers=count,
                persistent_workers=True,
                prefetch_factor=_AHEAD,
                multiprocessing_context=context,
                pin_memory=self.pinned,
                generator=torch.Generator(),  # the global one must draw the same with and without loaders
            )
        _log.info("%d loaders read the batches", count)
        return True

    def _read_ahead(self, task: Task, requests: Iterator[BatchRequest]) -> Iterator[tuple[BatchRequest, TensorTree]]:
        assert self._loader is not None
        self._requests.coming = requests
        try:
            batches: Iterator[Any] = iter(self._loader)
        except OSError as error:
            self._give_up(f"they cannot be started: {first_line(error)}")
            batches = iter(())
        unanswered = self._requests.unanswered
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                break
            except (RuntimeError, OSError) as error:  # DataLoader's error where a loader died
                self._give_up(first_line(error))
                break
            request = unanswered.popleft()
            if isinstance(batch, _Failed):
                raise WrongInput(*batch.problems) from LoaderTrace(batch.trace)
            yield request, batch
        for request in chain(unanswered, requests):
            yield request, self._read_here(task, request)

    def _give_up(self, why: str) -> None:
        _log.warning("the loaders ended, and reading goes on in the training process (%s)", why)
        self.close()
        self.count = 0


def _unchanged(batch: object) -> object:
    return batch
