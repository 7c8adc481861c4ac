"""What a sweep says once: warnings of its trials, and that its workers wait for data."""

from pathlib import Path

from paretta.dashboards.journal.gauges import samples
from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.schema import curve_points
from paretta.orchestrator.monitor.event_log import EventLog
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.search_spaces.canonical import Document


class Lines:
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, record: SweepRecord, event: Document) -> None:
        """Show nothing."""

    def show_line(self, text: str) -> None:
        self.shown.append(text)


def message(loading: float, *, epoch: int = 2, loaders: int | None = 0) -> Document:
    shares: Document = {"loading": loading, "computing": 1 - loading, "communication": 0.0, "measuring": 0.0}
    told: Document = {"stage": "train", "epoch": epoch, "num_epochs": 4, "loss": 0.5, "shares": shares}
    return {**told, "loaders": loaders, "where": "lane 1 on node"}


def test_waiting_for_data_is_said_once_with_the_mend(tmp_path: Path) -> None:
    lines = Lines()
    with Journal(tmp_path) as journal:
        log = EventLog(journal, lines, SweepFiles(tmp_path))
        log.sweep(name="s", config={}, objectives=(), facts={})
        for one in (message(0.9, epoch=1), message(0.3), message(0.9, loaders=None), message(0.5), message(0.8)):
            log.progress("t1", one)
        assert lines.shown == [
            "t1: workers wait 50 % of their time for data; let more processes read ahead, such as workers: "
            "{loaders: 2, cpus: 3}"
        ]


def test_shares_of_time_are_gauges_and_curves() -> None:
    record = SweepRecord()
    record.progress["t1"] = message(0.25)
    found = {sample.labels: sample.value for sample in samples(record) if sample.name == "paretta_lane_time_share"}
    assert found[("lane", "lane 1 on node"), ("of", "loading")] == 0.25
    assert found[("lane", "lane 1 on node"), ("of", "computing")] == 0.75
    points = curve_points({"event": "progress", "uid": "t1", "time": 1.0, "message": message(0.25)}, 0)
    assert {point.key: point.value for point in points}["train/share_loading"] == 0.25
