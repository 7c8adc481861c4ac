"""What trials share and go on from where nodes share no disk: it lies in the storage, with a copy on the node."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, cast

import ray
from ray.actor import ActorHandle

from paretta.orchestrator.cluster.ray_calls import answer
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.pipelines.state.cache import Cache
from paretta.pipelines.state.checkpoint import Checkpoint
from paretta.pipelines.state.state_file import State

_CLAIM_S: Final = 0.5  # between two attempts to get a claim

_log = logging.getLogger("paretta")


def cache_of(files: SweepFiles, name: str) -> Cache:
    """Return the cache in the folder `name` of the sweep's files."""
    folder = files.path(name)
    return Cache(folder) if files.storage is None else StoredCache(folder, files=files, name=name)


def checkpoint_of(files: SweepFiles, name: str) -> Checkpoint:
    """Return the training states in the folder `name` of the sweep's files."""
    folder = files.path(name)
    return Checkpoint(folder) if files.storage is None else StoredCheckpoint(folder, files=files, name=name)


@dataclass(frozen=True, kw_only=True)
class StoredCache(Cache):
    """A cache whose files are brought from the storage where this node lacks them, and sent there when made.

    Args:
        files: of the sweep.
        name: of the cache's folder there.
    """

    files: SweepFiles
    name: str

    def fetch(self, key: str) -> Mapping[str, State] | None:
        """See `Cache.fetch`; what cannot be brought is made again."""
        path = self._path(key)
        if key not in self.memory and path is not None and not path.exists():
            try:
                self.files.bring_now(f"{self.name}/{path.name}")
            except OSError as error:
                _log.warning("%s cannot be brought from the storage (%s)", path.name, error)
        return super().fetch(key)

    def store(self, key: str, state: Mapping[str, State], *, write: bool = True) -> None:
        """See `Cache.store`; what cannot be sent is made again elsewhere."""
        super().store(key, state, write=write)
        path = self._path(key)
        if write and path is not None:
            try:
                self.files.send_now(f"{self.name}/{path.name}")
                self.files.keep_within(self.name, self.largest_files)
            except OSError as error:
                _log.warning("%s cannot be sent to the storage (%s)", path.name, error)

    @contextmanager
    def claimed(self, key: str) -> Iterator[None]:
        """See `Cache.claimed`; a claim holds on all nodes of the cluster."""
        with super().claimed(key), _claimed_in_cluster(f"paretta-{key}"):
            yield


@dataclass(frozen=True, kw_only=True)
class StoredCheckpoint(Checkpoint):
    """Training states that outlive their node.

    Args:
        files: of the sweep.
        name: of the folder there.
    """

    files: SweepFiles
    name: str

    def save(self, key: str, state: Mapping[str, State]) -> None:
        """See `Checkpoint.save`; where the storage stays away, the training goes on."""
        super().save(key, state)
        try:
            self.files.send_now(f"{self.name}/{self._path(key).name}")
        except OSError as error:
            _log.warning("the training goes on without its state in the storage (%s)", error)

    def load(self, key: str) -> Mapping[str, State] | None:
        """See `Checkpoint.load`; the storage's state goes before one that an earlier attempt left on this node."""
        try:
            self.files.bring_now(f"{self.name}/{self._path(key).name}")
        except OSError as error:
            _log.warning("a saved state cannot be brought from the storage (%s)", error)
        return super().load(key)


class _Claim:
    """Lives as long as the right that its name stands for; with the process that made it, it ends."""

    def held(self) -> bool:
        """Answer once it lives."""
        return True


@contextmanager
def _claimed_in_cluster(name: str) -> Iterator[None]:
    """Hold the only actor of this name in the sweep's cluster; wait while another process does."""
    if not ray.is_initialized():
        yield
        return
    while True:
        try:
            claim = cast("ActorHandle[_Claim]", ray.remote(num_cpus=0)(_Claim).options(name=name).remote())
        except ValueError:
            time.sleep(_CLAIM_S)
            continue
        try:
            answer(claim.held.remote())
            yield
        finally:
            ray.kill(claim)
        return
