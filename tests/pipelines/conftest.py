"""Fixtures shared by the tests of several modules."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for almost nothing; only root can mount one."""
    folder = tmp_path / "full"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    mounted = subprocess.run(mounting, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def full_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let weights have 8 bits on every processor; where its kernels overflow, exported answers differ then."""
    monkeypatch.setattr("paretta.pipelines.stages.quantize.saturates", lambda: False)
