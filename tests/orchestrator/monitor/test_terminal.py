"""A running sweep in the terminal: the bar, the counts, the best points and the time left, each on lines of its own."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.activity import seconds_left
from paretta.dashboards.journal.journal import events
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.monitor.progress_text import summary
from paretta.orchestrator.monitor.terminal import LiveDisplay


@pytest.fixture
def record(tmp_path: Path) -> SweepRecord:
    return write_sweep(tmp_path / "s", trials=16, finished=False, artifacts=False)


def test_bar_counts_best_points_and_running_trials_have_lines_of_their_own(record: SweepRecord) -> None:
    stream, seen = StringIO(), SweepRecord("s")
    with Live(console=Console(file=stream, width=80, force_terminal=True, color_system=None)) as live:
        display = LiveDisplay(live, 16)
        for event, _ in events(record.folder):
            seen.apply(event)
            display.update(seen, event)
    shown = stream.getvalue().rpartition("\x1b[2K")[2].splitlines()
    assert set(shown[0].strip()) == {"━"}
    assert shown[1].startswith("14 of 16 ended: ")
    best, running = shown.index("best so far"), [line.strip() for line in shown].index("running")
    front = record.front()
    told = "\n".join(shown[best:running])
    assert f"{front.knee().uid}  {front.knee().readings['size']}" in told
    assert f"{front.pick(prefer='size').uid} " in told
    assert "smallest" in told
    assert len(shown[running + 1 :]) >= 2
    assert max(map(len, shown)) <= 80


def test_all_that_ended_is_counted_and_no_time_is_left(record: SweepRecord) -> None:
    ended = {
        trial.uid: replace(trial, status="complete" if trial.number <= 7 else "stopped early")
        for trial in record.trials.values()
        if trial.role == "trial"
    }
    record = SweepRecord("s", objectives=record.objectives)
    for trial in ended.values():
        record._keep(trial)
    record.began = 0.0
    assert summary(record, 16) == "16 of 16 ended: 7 complete, 9 stopped early; hypervolume 0.000"


def test_time_left_heeds_the_budget(record: SweepRecord) -> None:
    began = record.began
    assert began is not None
    workers = {"per_trial": 2, "cpus": 1.5, "gpus": 0.5}
    for budget, expected in (
        ({}, 40.0),  # 14 of 30 took 35 s
        ({"hours": 0.02, "cpu_hours": None}, 37.0),
        ({"hours": 5.0, "cpu_hours": 0.06}, 1.0),  # 0.06 h of 2 lanes of 2 workers with 1.5 CPUs each
        ({"gpu_hours": 0.02}, 1.0),
        ({"hours": 0.001}, 0.0),
    ):
        record.facts = {**record.facts, "lanes": 2}
        record.config = {**record.config, "budget": budget, "workers": workers}
        assert seconds_left(record, 30, now=began + 35.0) == pytest.approx(expected)
    assert "left" not in summary(record, 30)


def test_a_pause_before_the_sweep_was_resumed_or_extended_is_no_time_of_its_trials(record: SweepRecord) -> None:
    began, last = record.began, record.updated
    assert began is not None
    expected = (last - began) / 14 * 6
    assert seconds_left(record, 20, now=last) == pytest.approx(expected)
    record.apply({"event": "end", "time": last, "status": "done", "reason": None})
    record.apply({"event": "resumed", "time": last + 86400.0, "facts": {}})
    assert seconds_left(record, 20, now=last + 86400.0) == pytest.approx(expected)
