import errno
import threading
import time
from pathlib import Path

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.liveness import has_died, is_written, resume_command, state_words
from paretta.dashboards.journal.record import SweepRecord


def test_sweep_without_a_driver_and_an_ending_has_died(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=3, finished=False, artifacts=False)
    with Journal(record.folder) as journal:
        assert not has_died(record)
        assert state_words(record) == ("running", None)
        journal.end("stopped", "interrupted")
    assert has_died(record)
    assert state_words(record) == ("died", f"resume with: paretta launch --resume s --home {tmp_path}")
    assert state_words(SweepRecord.read(record.folder)) == ("stopped", "interrupted")
    assert not has_died(SweepRecord(folder=tmp_path / "nowhere"))


def test_command_is_quoted_for_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "größe #1?"
    record = SweepRecord(facts={"own_cluster": False})
    said = resume_command(folder, record)
    assert said == f"paretta launch --resume 'größe #1?' --home {tmp_path} --address ADDRESS"
    monkeypatch.setenv("PARETTA_HOME", str(tmp_path))
    assert resume_command(folder, SweepRecord()) == "paretta launch --resume 'größe #1?'"


def test_who_only_asks_keeps_no_driver_from_beginning(tmp_path: Path) -> None:
    write_sweep(tmp_path, trials=1, artifacts=False)
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            is_written(tmp_path)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            Journal(tmp_path).__exit__(None, None, None)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_what_a_full_disk_does_not_take_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_sweep(tmp_path, trials=1, artifacts=False)
    whole = (tmp_path / "journal.jsonl").read_bytes()
    with Journal(tmp_path) as journal:
        room, write = 30, journal._file.write

        class Full:
            def __getattr__(self, name: str) -> object:
                return getattr(inner, name)

            def write(self, line: bytes) -> int:
                nonlocal room
                if not room:
                    raise OSError(errno.ENOSPC, "No space left on device")
                taken, room = write(line[:room]), 0
                return taken

        inner = journal._file
        monkeypatch.setattr(journal, "_file", Full())
        with pytest.raises(OSError, match="No space left"):
            journal.end("failed", "x" * 100)
        assert (tmp_path / "journal.jsonl").read_bytes() == whole
        room = 10_000
        journal.end("stopped", "later")
    after = SweepRecord.read(tmp_path)
    assert (before.status, after.status, after.reason) == ("done", "stopped", "later")


@pytest.mark.parametrize("torn", [b"", b"{", b"x" * 65_535, b"x" * 65_536, b"x" * 200_000])
def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path: Path, torn: bytes) -> None:
    write_sweep(tmp_path, trials=1, artifacts=False)
    journal = tmp_path / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    Journal(tmp_path).__exit__(None, None, None)
    assert journal.read_bytes() == whole
    journal.write_bytes(torn)
    Journal(tmp_path).__exit__(None, None, None)
    assert journal.read_bytes() == b""
