"""Caches and checkpoints for nodes without a shared disk: kept in the storage, with a copy on each node."""

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

_CLAIM_S: Final = 0.5  # seconds between two attempts to get a claim

_log = logging.getLogger("paretta")


def cache_of(files: SweepFiles, name: str) -> Cache:
    """Return the cache in the folder `name` of the sweep's files."""
    folder = files.path(name)
    return Cache(folder) if files.storage is None else StoredCache(folder, files=files, name=name)


def checkpoint_of(files: SweepFiles, name: str, every_s: float | None = None) -> Checkpoint:
    """Return the checkpoint in the folder `name` of the sweep's files; see `Checkpoint` for `every_s`."""
    folder = files.path(name)
    if files.storage is None:
        return Checkpoint(folder, every_s)
    return StoredCheckpoint(folder, every_s, files=files, name=name)


@dataclass(frozen=True, kw_only=True)
class StoredCache(Cache):
    """A cache that downloads files that this node lacks from the storage, and uploads new ones.

    Args:
        files: of the sweep.
        name: of the cache's folder there.
    """

    files: SweepFiles
    name: str

    def fetch(self, key: str) -> Mapping[str, State] | None:
        """See `Cache.fetch`; an entry that cannot be downloaded is computed again."""
        path = self._path(key)
        if key not in self.memory and path is not None and not path.exists():
            try:
                self.files.bring_now(f"{self.name}/{path.name}")
            except OSError as error:
                _log.warning("%s cannot be read from the storage (%s)", path.name, error)
        return super().fetch(key)

    def store(self, key: str, state: Mapping[str, State], *, write: bool = True) -> None:
        """See `Cache.store`; an entry that cannot be uploaded is computed again on other nodes."""
        super().store(key, state, write=write)
        path = self._path(key)
        if write and path is not None:
            try:
                self.files.send_now(f"{self.name}/{path.name}")
                self.files.keep_within(self.name, self.largest_files)
            except OSError as error:
                _log.warning("%s cannot be written to the storage (%s)", path.name, error)

    @contextmanager
    def claimed(self, key: str) -> Iterator[None]:
        """See `Cache.claimed`; a claim holds on all nodes of the cluster."""
        with super().claimed(key), _claimed_in_cluster(f"paretta-{key}"):
            yield


@dataclass(frozen=True, kw_only=True)
class StoredCheckpoint(Checkpoint):
    """A checkpoint that outlives its node.

    Args:
        files: of the sweep.
        name: of the folder there.
    """

    files: SweepFiles
    name: str

    def save(self, key: str, state: Mapping[str, State]) -> None:
        """See `Checkpoint.save`; if the storage is unavailable, the training goes on."""
        super().save(key, state)
        try:
            self.files.send_now(f"{self.name}/{self._path(key).name}")
        except OSError as error:
            _log.warning("the checkpoint cannot be written to the storage; the training goes on (%s)", error)

    def load(self, key: str) -> Mapping[str, State] | None:
        """See `Checkpoint.load`; the storage's state takes precedence over one that an earlier attempt left here."""
        try:
            self.files.bring_now(f"{self.name}/{self._path(key).name}")
        except OSError as error:
            _log.warning("the checkpoint cannot be read from the storage (%s)", error)
        return super().load(key)


class _Claim:
    """An actor whose name is a claim; it lives while the claim is held, and ends with the process that started it."""

    def held(self) -> bool:
        """Return once the actor is alive."""
        return True


@contextmanager
def _claimed_in_cluster(name: str) -> Iterator[None]:
    """Hold the only actor of this name in the sweep's cluster; wait while another process holds it."""
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
