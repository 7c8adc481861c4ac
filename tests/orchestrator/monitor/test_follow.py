"""A sweep is followed by its journal until no process runs it."""

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.cli import main
from paretta.orchestrator.monitor.follow import changes, follow_sweep, watch_front


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "s", trials=6, finished=False, artifacts=False).folder


def _end_one(journal: Journal, record: SweepRecord) -> str:
    last = next(trial for trial in record.trials.values() if trial.status == "running")
    best = record.front().knee()
    small = replace(best.readings["size"], value=1.0)
    journal.trial(replace(last, status="complete", readings={**best.readings, "size": small}))
    return last.uid


def test_news_are_yielded_until_the_sweep_ends(folder: Path) -> None:
    with Journal(folder) as journal:
        following = changes(folder, every_s=0.001)
        record, past = next(following)
        assert record.count("running") == 2
        assert len(past) == (folder / "journal.jsonl").read_bytes().count(b"\n")
        uid = _end_one(journal, record)
        same, news = next(following)
        assert same is record
        assert [event["event"] for event in news] == ["trial"]
        assert record.trials[uid].status == "complete"
        journal.end("done")
        assert [event["event"] for _, news in following for event in news] == ["end"]


def test_following_ends_with_a_driver_that_died(folder: Path) -> None:
    assert len(list(changes(folder, every_s=0.001))) == 1


def test_a_follower_is_told_what_ends_from_now_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def driver() -> None:
        nonlocal uid
        uid = _end_one(journal, SweepRecord.read(folder))
        journal.end("done")

    uid = ""
    with Journal(folder) as journal, pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", lambda _: driver())
        follow_sweep(folder)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if " | " in line]
    assert line.startswith("5 of 6 ended: ")
    assert f"trial {int(uid[:4])}: size 1 B" in line


def test_the_front_is_printed_again_when_it_changes_and_at_the_end(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = iter(("trial", "end"))

    def driver(_: float) -> None:
        if next(steps) == "trial":
            _end_one(journal, SweepRecord.read(folder))
        else:
            journal.end("done")

    with Journal(folder) as journal, pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", driver)
        watch_front(folder)
    assert capsys.readouterr().out.count("± half of the 95 % interval") == 2


def test_watching_needs_the_journal_on_this_disk() -> None:
    assert {"--watch", "--follow"} <= {
        option for verb in ("front", "status") for parameter in main.commands[verb].params for option in parameter.opts
    }
