"""Read files that others may have written, with a bound on what they take of the memory."""

import hashlib
from pathlib import Path
from typing import Final

LARGEST_FILE: Final = 2**26  # far above any manifest or journal line of ours


def read_bounded(path: Path, most: int = LARGEST_FILE) -> bytes:
    """Return a file's content. Raises `ValueError` if it is longer than `most` bytes, and `OSError`."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most} bytes")
    return content


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file of any size, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
