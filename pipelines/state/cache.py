"""What trials share: values by name, kept in this process and in files that all nodes see, made once, within a size."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from paretta.pipelines.state.state_file import FILE_ERRORS, State, copied, read_state, tensors_in, write_state


@dataclass(frozen=True, slots=True)
class Cache:
    """Values by key, kept in this process and, where a folder is given, in one .safetensors file a key.

    A key names content: equal keys hold equal values. What was used longest ago goes first where space runs out.

    Args:
        folder: where files go, seen by all nodes; None keeps values in memory only.
        memory: what this process has seen already; one Cache object shared by many runs spares them the files.
        largest_files, largest_memory: bytes that all files, and all tensors in memory, may take.
    """

    folder: Path | None = None
    memory: dict[str, Mapping[str, State]] = field(default_factory=dict)
    largest_files: int = 8 * 2**30
    largest_memory: int = 2**30

    def fetch(self, key: str) -> Mapping[str, State] | None:
        """Return what is stored under `key`, not to be changed in place; None where there is nothing."""
        path = self._path(key)
        if key not in self.memory and path is not None and path.exists():
            with suppress(*FILE_ERRORS):  # damaged, or another process evicted it: it is made again
                self._remember(key, read_state(path))
        if key in self.memory:
            self.memory[key] = self.memory.pop(key)  # the last of them was used last
            if path is not None:
                with suppress(OSError):
                    os.utime(path)
        return self.memory.get(key)

    def store(self, key: str, state: Mapping[str, State], *, write: bool = True) -> None:
        """Keep copies of `state` under `key`; readers see all of it or nothing. `write` is for one rank of a group."""
        self._remember(key, copied(state))
        path = self._path(key)
        if path is None or not write:
            return
        with suppress(*FILE_ERRORS):  # a full disk costs the sharing, not the trial
            write_state(path, self.memory[key])
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
        claim = path.with_suffix(".claim")
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with claim.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not _is_at(file.fileno(), claim):
                    continue  # who had it before has removed it
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


def _bytes(state: Mapping[str, State]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(state))


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
