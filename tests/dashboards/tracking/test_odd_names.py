"""Homes, sweeps and metrics whose names mean something else to databases, URLs and MLflow."""

import shutil
from pathlib import Path

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.publisher import publish_sweep
from paretta.dashboards.tracking.reader import read_back, read_front
from paretta.dashboards.tracking.store import default_uri, probe


@pytest.mark.parametrize("name", ["C# 50% é?x=1 [a]", "file:what%3F"])
def test_sweep_in_a_home_of_any_name_is_recorded_whole(tmp_path: Path, empty_store: Path, name: str) -> None:
    home = tmp_path / name
    folder = write_sweep(home / "größe 1", trials=4).folder
    shutil.copy(empty_store, home / "mlflow.db")
    journal = folder / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"latency"', '"loss//val"'))
    record = SweepRecord.read(folder)
    status = publish_sweep(record)
    assert (status.behind, status.refused) == (0, ())
    probe(default_uri(home))
    assert read_back(default_uri(home), record.name) == sorted(record.trials.values(), key=lambda trial: trial.number)
    assert [t.value("loss//val") for t in read_front(default_uri(home), record.name)] == [
        trial.value("loss//val") for trial in record.front()
    ]
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert (home / "mlartifacts").is_dir()
