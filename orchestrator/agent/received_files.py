"""The files that an agent was sent: kept by their digests in one folder, within a limit."""

import hashlib
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from tempfile import mkstemp

from paretta.search_spaces.errors import ParettaError
from paretta.search_spaces.quantities import format_quantity


class NoRoom(ParettaError):
    """A file does not fit."""


class DamagedFile(ParettaError):
    """A file is not what its digest says, or ended early."""


class ReceivedFiles:
    """Files by their SHA-256; those that were unused for longest make room for new ones. It may be used by threads."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Keep up to `most_bytes` in `folder`, which is empty."""
        self.folder, self.most_bytes = folder, most_bytes
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()  # the longest unused first
        self._used: Counter[str] = Counter()
        self._coming = 0  # bytes that are being received

    def lacking(self, digests: Iterable[str]) -> list[str]:
        """Return those of `digests` that are not here; the others count as used now."""
        with self._lock:
            return self._lacking(digests)

    def receive(self, digest: str, length: int, blocks: Iterable[bytes]) -> None:
        """Write a file of `length` bytes to the disk, block by block.

        Raises:
            NoRoom: it is larger than the limit, or files that are in use leave too little of it, or the disk is full.
            DamagedFile: the content is not that of the digest.
        """
        self._reserve(length)
        try:
            self._write(digest, length, blocks)
        finally:
            with self._lock:
                self._coming -= length

    def take(self, digests: Iterable[str]) -> list[str]:
        """Keep files until they are given `back`; return those that are lacking, in which case none is kept."""
        wanted = list(digests)
        with self._lock:
            if not (lacking := self._lacking(wanted)):
                self._used.update(wanted)
            return lacking

    def back(self, digests: Iterable[str]) -> None:
        """Let files go that were taken."""
        with self._lock:
            self._used.subtract(digests)

    def path(self, digest: str) -> Path:
        """Return where a file lies."""
        return self.folder / digest

    def _lacking(self, digests: Iterable[str]) -> list[str]:
        lacking = []
        for digest in digests:
            if digest in self._sizes:
                self._sizes.move_to_end(digest)
            else:
                lacking.append(digest)
        return lacking

    def _reserve(self, length: int) -> None:
        with self._lock:
            over = sum(self._sizes.values()) + self._coming + length - self.most_bytes
            for digest in [digest for digest in self._sizes if not self._used[digest]]:
                if over <= 0:
                    break
                over -= self._sizes.pop(digest)
                self.path(digest).unlink(missing_ok=True)
            if over > 0:
                limit = format_quantity(self.most_bytes, "B")
                rule = f"a file of {format_quantity(length, 'B')} does not fit: this agent keeps {limit} of files"
                raise NoRoom(f"{rule}; start it with a larger --limit")
            self._coming += length

    def _write(self, digest: str, length: int, blocks: Iterable[bytes]) -> None:
        found, size = hashlib.sha256(), 0
        descriptor, name = mkstemp(dir=self.folder, prefix="coming-")
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                for block in _within(blocks, length):
                    found.update(block)
                    size += len(block)
                    _append(file, block)
            if size != length or found.hexdigest() != digest:
                raise DamagedFile(f"the file is damaged: its digest is {found.hexdigest()}, not {digest}")
            with self._lock:
                Path(name).replace(self.path(digest))
                self._sizes[digest] = length
        finally:
            Path(name).unlink(missing_ok=True)


def _append(file: FileIO, block: bytes) -> None:
    try:
        while block:
            block = block[file.write(block) :]
    except OSError as error:
        raise NoRoom(f"the file cannot be kept: {error.strerror}") from error


def _within(blocks: Iterable[bytes], length: int) -> Iterator[bytes]:
    """Yield blocks of `length` bytes together; what would be more is damage."""
    for block in blocks:
        length -= len(block)
        if length < 0:
            raise DamagedFile("the file is longer than it was said to be")
        yield block
