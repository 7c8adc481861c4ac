"""A size-limited cache of values by key, in memory and in files, through which trials share results."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from paretta.pipelines.state.state_file import FILE_ERRORS, State, copied, read_state, tensors_in, write_state


@dataclass(frozen=True, slots=True)
class Cache:
    """Values by key, in memory and, if a folder is given, in one .safetensors file per key.

    A key identifies content: equal keys have equal values. The least recently used values are evicted first.

    Args:
        folder: for the files, visible to all nodes; None keeps values in memory only.
        memory: values that this process has already seen; runs that share a Cache object need not read the files.
        largest_files, largest_memory: the most bytes that all files, and all tensors in memory, may take.
    """

    folder: Path | None = None
    memory: dict[str, Mapping[str, State]] = field(default_factory=dict)
    largest_files: int = 8 * 2**30
    largest_memory: int = 2**30

    def fetch(self, key: str) -> Mapping[str, State] | None:
        """Return the value of `key`, which must not be changed in place; None if there is none."""
        path = self._path(key)
        if key not in self.memory and path is not None and path.exists():
            with suppress(*FILE_ERRORS):  # damaged, or evicted by another process: the value is computed again
                self._remember(key, read_state(path))
        if key in self.memory:
            self.memory[key] = self.memory.pop(key)  # the last one is the most recently used
            if path is not None:
                with suppress(OSError):
                    os.utime(path)
        return self.memory.get(key)

    def store(self, key: str, state: Mapping[str, State], *, write: bool = True) -> None:
        """Store a copy of `state` under `key`, atomically for readers. Set `write` on one rank of a group only."""
        self._remember(key, copied(state))
        path = self._path(key)
        if path is None or not write:
            return
        with suppress(*FILE_ERRORS):  # on a full disk the value is not shared, but the trial goes on
            write_state(path, self.memory[key])
        self._evict(path)

    @contextmanager
    def claimed(self, key: str) -> Iterator[None]:
        """Hold the claim to compute the value of `key`, so that it is computed once; other claimants wait here.

        The claim is released when the process ends, however it ends. Without a folder there is nobody to wait for.
        """
        path = self._path(key)
        if path is None:
            yield
            return
        claim = path.with_suffix(".claim")
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with claim.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not _is_at(file.fileno(), claim):
                    continue  # the previous holder has removed the lock file
                try:
                    yield
                finally:
                    claim.unlink(missing_ok=True)
                return

    def _remember(self, key: str, state: Mapping[str, State]) -> None:
        self.memory[key] = state
        while len(self.memory) > 1 and sum(map(_bytes, self.memory.values())) > self.largest_memory:
            del self.memory[next(iter(self.memory))]

    def _evict(self, newest: Path) -> None:
        """Remove the least recently used files until the rest fits."""
        files = []
        for file in newest.parent.glob("*.safetensors"):
            try:
                files.append((file.stat().st_mtime, file.stat().st_size, file))
            except FileNotFoundError:
                continue  # another process has already removed it
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total <= self.largest_files or file == newest:
                break
            file.unlink(missing_ok=True)
            total -= size

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key}.safetensors"


def _bytes(state: Mapping[str, State]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(state))


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
