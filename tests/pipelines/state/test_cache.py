"""The cache shared by trials: each entry computed once, complete or absent, within its size limit, never blocking."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch

from paretta.pipelines.state.cache import Cache


def tensors(size: int = 250) -> dict[str, torch.Tensor]:
    return {"weights": torch.arange(size, dtype=torch.float32)}


def make_once(folder: str, made: "multiprocessing.Queue[str]") -> None:
    cache = Cache(Path(folder))
    with cache.claimed("shared"):
        if cache.fetch("shared") is None:
            time.sleep(0.3)
            cache.store("shared", tensors())
            made.put("made")


def test_processes_that_want_the_same_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    made = context.Queue()
    processes = [context.Process(target=make_once, args=(str(tmp_path), made)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert made.get(timeout=5) == "made"
    assert made.empty()
    assert [process.exitcode for process in processes] == [0, 0]


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, largest_files=3000)
    for number, key in enumerate("abc"):
        cache.store(key, tensors())  # about 1,100 bytes each
        age = time.time() - 100 + number
        os.utime(tmp_path / f"{key}.safetensors", (age, age))
        if key == "b":
            Cache(tmp_path).fetch("a")
    cache.store("d", tensors())
    assert sorted(file.stem for file in tmp_path.glob("*.safetensors")) == ["a", "d"]


def test_memory_has_its_own_limit() -> None:
    cache = Cache(largest_memory=2500)
    for key in "abcd":
        cache.store(key, tensors())
    assert list(cache.memory) == ["c", "d"]
    cache.store("larger than all", tensors(10_000))
    assert list(cache.memory) == ["larger than all"]


@pytest.mark.parametrize("content", [b"", b"not tensors", b"\xff" * 64])
def test_a_damaged_file_is_made_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.safetensors").write_bytes(content)
    cache = Cache(tmp_path)
    assert cache.fetch("key") is None
    cache.store("key", tensors())
    assert Cache(tmp_path).fetch("key") is not None


def test_a_full_disk_costs_the_sharing_and_nothing_else(tmp_path: Path, full_disk: Path) -> None:
    cache = Cache(full_disk)
    cache.store("key", tensors(1_000_000))
    assert cache.fetch("key") is not None
    assert not list(full_disk.glob("*.safetensors"))
    assert not list(full_disk.glob("*.part"))
