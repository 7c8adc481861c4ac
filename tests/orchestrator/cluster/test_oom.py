"""How the system reports processes that it killed because memory ran out."""

from pathlib import Path

import pytest

from paretta.orchestrator.cluster.oom import oom_kills


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sys/fs/cgroup/memory.events", "low 0\nhigh 0\nmax 12\noom 4\noom_kill 3\noom_group_kill 1\n"),
        ("sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        ("proc/vmstat", "nr_free_pages 9\noom_kill 3\ndrop_pagecache 0\n"),
    ],
)
def test_the_kernel_s_own_counter_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(text)
    assert oom_kills(tmp_path) == 3


def test_a_system_that_does_not_count_tells_of_none(tmp_path: Path) -> None:
    assert oom_kills(tmp_path) == 0
