import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.tracking.publisher import Publisher, publish_sweep, publisher_lock
from paretta.dashboards.tracking.reader import download, read_back, read_front
from paretta.dashboards.tracking.store import StoreUnavailable, default_uri, open_store
from paretta.dashboards.tracking.sync_status import read_sync_status
from paretta.search_spaces.errors import WrongInput

Make = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[3] / "src"


def _runs(home: Path) -> list[Run]:
    client = open_store(default_uri(home))
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids, max_results=1000))


def _count(home: Path) -> int:
    """Count without MLflow, which takes longer than the publisher that is being watched."""
    with sqlite3.connect(f"file:{home / 'mlflow.db'}?mode=ro", uri=True) as connection:
        return int(connection.execute("select count(*) from runs").fetchone()[0])


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _rows(home: Path) -> list[str]:
    with sqlite3.connect(home / "mlflow.db") as connection:
        return sorted(connection.iterdump())


def test_sweep_is_a_parent_run_and_every_trial_a_child(home: Path, sweep: Make) -> None:
    record = SweepRecord.read(sweep(trials=12, seed=5))
    publish_sweep(record)
    runs = _runs(home)
    parent = next(run for run in runs if run.data.tags["sweep.kind"] == "sweep")
    children = {run.data.tags["trial.uid"]: run for run in runs if run is not parent}
    assert children.keys() == record.trials.keys()
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"
    (data,) = parent.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits", "ab" * 18)
    assert parent.data.params["search.trials"] == "12"
    assert parent.data.metrics["front/size"] == len(record.front())
    assert parent.data.metrics["front/hypervolume"] == pytest.approx(record.front().hypervolume)


def test_metrics_end_at_the_front_that_a_later_reading_leaves(home: Path, sweep: Make) -> None:
    folder = sweep(trials=12, seed=5, finished=False, artifacts=False)
    record = SweepRecord.read(folder)
    publish_sweep(record)
    knee = record.front().knee()
    worse = {meter: replace(reading, value=0.0) for meter, reading in knee.readings.items() if meter == "accuracy"}
    with Journal(folder) as journal:
        journal.trial(replace(knee, readings={**knee.readings, **worse}))
        journal.end("done")
    record = SweepRecord.read(folder)
    publish_sweep(record)
    (parent,) = (run for run in _runs(home) if run.data.tags["sweep.kind"] == "sweep")
    assert parent.data.metrics["front/size"] == len(record.front())
    assert parent.data.metrics["front/hypervolume"] == pytest.approx(record.front().hypervolume)
    assert record.history()[-1].hypervolume > record.front().hypervolume + 0.05  # as it grew, trial by trial


def test_run_of_a_trial_holds_its_readings_knobs_and_costs(home: Path, sweep: Make) -> None:
    record = SweepRecord.read(sweep(trials=12, seed=5))
    publish_sweep(record)
    trial = record.front().members[1]
    run = next(run for run in _runs(home) if run.data.tags.get("trial.uid") == trial.uid)
    accuracy = trial.readings["accuracy"]
    assert run.data.params["prune.sparsity"] == str(trial.knobs["prune.sparsity"])
    assert run.data.metrics["hp/prune.sparsity"] == trial.knobs["prune.sparsity"]
    assert run.data.metrics["accuracy"] == accuracy.value
    assert run.data.metrics["interval/accuracy_low"] == accuracy.low
    assert run.data.metrics["interval/accuracy_high"] == accuracy.high
    assert run.data.metrics["test/accuracy"] == trial.test_readings["accuracy"].value
    assert run.data.metrics["detail/latency_seconds"] == trial.readings["latency"].details["seconds"]
    assert run.data.metrics["detail/latency_contended"] == float(trial.readings["latency"].details["contended"])
    told = run.data.tags["trial.readings"].split(" · ")
    assert told == [f"{o.meter} {trial.readings[o.meter].with_time}" for o in record.objectives]
    assert any(text.endswith((" kB", " B")) for text in told)
    assert run.data.metrics["cost/wall_s"] == trial.cost["wall_s"]
    assert run.info.end_time == round(trial.finished * 1000)
    assert "interval/size_low" not in run.data.metrics
    assert {key for key in run.data.metrics if "/" not in key} == {"size", "latency", "accuracy"}
    curve = open_store(default_uri(home)).get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in curve] == [(1, 1.5), (2, 0.75), (3, 0.5)]


def test_failure_keeps_its_state_and_reason(home: Path, sweep: Make) -> None:
    record = SweepRecord.read(sweep(trials=60, seed=3))
    failed = [trial for trial in record.trials.values() if trial.status == "failed"]
    publish_sweep(record)
    runs = {run.data.tags.get("trial.uid"): run for run in _runs(home)}
    assert failed
    for trial in failed:
        assert runs[trial.uid].info.status == "FAILED"
        assert runs[trial.uid].data.tags["trial.reason"] == trial.reason
        assert "accuracy" not in runs[trial.uid].data.metrics


def test_front_is_tagged_with_its_roles(home: Path, sweep: Make) -> None:
    folder = sweep(trials=12)
    front = SweepRecord.read(folder).front()
    publish_sweep(folder)
    marked = {run.data.tags["trial.uid"]: run for run in _runs(home) if run.data.tags.get("pareto") == "true"}
    assert marked.keys() == {trial.uid for trial in front}
    assert marked[front.knee().uid].data.tags["pareto.role"].startswith("knee")
    colours = {
        run.data.tags["trial.uid"]: run.data.tags["mlflow.runColor"]
        for run in _runs(home)
        if run.data.tags.get("trial.uid")
    }
    assert colours["baseline"] == "#000000"
    assert colours[front.knee().uid] == "#d55e00"
    assert {colours[uid] for uid in colours.keys() - marked.keys() - {"baseline"}} == {"#b3b3b3"}
    charted = {run.data.tags["trial.uid"] for run in _runs(home) if run.data.tags.get("pareto.chart") == "true"}
    assert charted == marked.keys() | {"baseline"}
    assert marked[front.pick(prefer="size").uid].data.tags["pareto.role"].endswith("smallest") or len(front) == 1


def test_publishing_twice_changes_nothing(home: Path, sweep: Make) -> None:
    folder = sweep(trials=12)
    publish_sweep(folder)
    rows, files = _rows(home), _files(home / "mlartifacts")
    publish_sweep(folder)
    assert _rows(home) == rows
    assert _files(home / "mlartifacts") == files


def test_nothing_is_written_outside_the_home(home: Path, sweep: Make, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, elsewhere, user = sweep(trials=4), tmp_path_factory.mktemp("cwd"), tmp_path_factory.mktemp("user")
    environment = {**os.environ, "HOME": str(user), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "paretta.dashboards.tracking.publisher", str(folder)]
    uri = default_uri(home).encode()
    subprocess.run(command, cwd=elsewhere, env=environment, check=True, capture_output=True, input=uri)
    assert len(_runs(home)) == 6
    assert list(elsewhere.rglob("*")) == []
    assert list(user.rglob("*")) == []


def test_trials_are_read_back_as_they_were_written(home: Path, sweep: Make) -> None:
    record = SweepRecord.read(sweep(trials=40, seed=2))
    publish_sweep(record)
    trials = read_back(default_uri(home), "invented")
    assert trials == sorted(record.trials.values(), key=lambda trial: trial.number)
    front = read_front(default_uri(home), "invented")
    assert front.members == record.front().members
    assert front.baseline == record.trials["baseline"]
    assert front.objectives == record.objectives


def test_files_of_a_member_are_downloaded_unchanged(home: Path, sweep: Make, tmp_path: Path) -> None:
    folder = sweep(trials=12)
    publish_sweep(folder)
    uid = SweepRecord.read(folder).front().knee().uid
    to = download(default_uri(home), "invented", uid, tmp_path / "deep" / "model")
    assert _files(to) == _files(folder / "artifacts" / uid)


def test_unknown_sweep_and_trial_are_answered_with_what_there_is(home: Path, sweep: Make, tmp_path: Path) -> None:
    publish_sweep(sweep(trials=4))
    with pytest.raises(WrongInput, match="did you mean 'invented'"):
        read_back(default_uri(home), "invent")
    with pytest.raises(WrongInput, match="no trial of the front is called 'nobody'"):
        download(default_uri(home), "invented", "nobody", tmp_path / "model")


def test_two_sweeps_of_one_name_are_told_apart(home: Path, sweep: Make, tmp_path: Path) -> None:
    publish_sweep(sweep(trials=3))
    with Journal(sweep("other", trials=3, finished=False)) as journal:
        journal.end("stopped")
    lines = (home / "other" / "journal.jsonl").read_text().replace('"name": "other"', '"name": "invented"')
    moved = tmp_path / "elsewhere" / "invented"
    moved.mkdir(parents=True)
    (moved / "journal.jsonl").write_text(lines.replace("1790000000.0", "1790000001.0"))
    publish_sweep(moved, default_uri(home))
    with pytest.raises(WrongInput, match="2 sweeps of the store have this name; give one of invented-"):
        read_back(default_uri(home), "invented")


def test_running_sweep_is_recorded_as_running_and_taken_up_again(home: Path, sweep: Make) -> None:
    folder = sweep(trials=12, finished=False)
    with Journal(folder):
        publish_sweep(folder)
    before = {run.data.tags.get("trial.uid", ""): run for run in _runs(home)}
    assert sum(run.info.status == "RUNNING" for run in before.values()) == 3
    publish_sweep(folder)  # its driver is gone
    (died,) = (run for run in _runs(home) if "trial.uid" not in run.data.tags)
    how = f"resume with: paretta launch --resume invented --home {home}"
    assert (died.info.status, died.data.tags["sweep.status"], died.data.tags["sweep.reason"]) == ("KILLED", "died", how)
    assert f"Sweep **invented**, died, {how}: " in died.data.tags["mlflow.note.content"]
    write_sweep(home / "whole" / "invented", trials=12)
    (folder / "journal.jsonl").write_bytes((home / "whole" / "invented" / "journal.jsonl").read_bytes())
    publish_sweep(folder)
    after = {run.data.tags.get("trial.uid", ""): run for run in _runs(home)}
    assert {uid: run.info.run_id for uid, run in after.items()} == {u: r.info.run_id for u, r in before.items()}
    assert all(run.info.status != "RUNNING" for run in after.values())


class _Unreliable:
    """A client that loses some requests, and of others only the response."""

    def __init__(self, client: MlflowClient, seed: int) -> None:
        self._client, self._random, self.lost = client, random.Random(seed), 0
        self.tracking_uri = client.tracking_uri

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            way = self._random.random()
            if way < 0.1:
                self._lose()
            result = getattr(self._client, name)(*given, **named)
            if way > 0.8:
                self._lose()
            return result

        return call

    def _lose(self) -> None:
        self.lost += 1
        raise MlflowException("API request failed: Connection reset by peer")


@pytest.mark.parametrize("seed", [1, 2])
def test_lost_requests_and_answers_neither_lose_nor_double_a_run(
    home: Path, sweep: Make, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = SweepRecord.read(sweep(trials=15))
    client = _Unreliable(open_store(default_uri(home)), seed)
    monkeypatch.setattr("paretta.dashboards.tracking.publisher.open_store", lambda _: client)
    monkeypatch.setattr("paretta.dashboards.tracking.publisher._PAUSES", (0.0,))
    assert publish_sweep(record, patience=1e9).behind == 0
    assert client.lost > 10
    assert sorted(run.data.tags.get("trial.uid", "") for run in _runs(home)) == sorted([*record.trials, ""])
    assert read_back(default_uri(home), "invented") == sorted(record.trials.values(), key=lambda t: t.number)
    history = client._client.get_metric_history(_runs(home)[-1].info.run_id, "cost/wall_s")
    assert len(history) <= 1


def test_twin_that_another_hand_made_is_taken_out(home: Path, sweep: Make) -> None:
    folder = sweep(trials=3)
    publish_sweep(folder)
    first = next(run for run in _runs(home) if run.data.tags.get("trial.number") == "2")
    twin = open_store(default_uri(home)).create_run(first.info.experiment_id, tags=first.data.tags)
    publish_sweep(folder)
    left = [run.info.run_id for run in _runs(home) if run.data.tags.get("trial.number") == "2"]
    assert left == [first.info.run_id]
    assert twin.info.run_id not in left


def test_store_that_stays_away_ends_a_publication_and_nothing_else(
    sweep: Make, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sweep(trials=3)
    client = _Unreliable(open_store(default_uri(home)), 0)
    monkeypatch.setattr(client, "_random", SimpleNamespace(random=lambda: 0.0))
    monkeypatch.setattr("paretta.dashboards.tracking.publisher.open_store", lambda _: client)
    monkeypatch.setattr("paretta.dashboards.tracking.publisher._PAUSES", (0.01,))
    with pytest.raises(StoreUnavailable, match="reset by peer"):
        publish_sweep(folder, patience=0.03)
    assert read_sync_status(folder).behind == 4


def test_a_password_in_the_store_s_address_is_shown_nowhere(home: Path, sweep: Make) -> None:
    folder, secret = sweep(trials=2, finished=False), "s3cretw0rd"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    publisher = Publisher(folder, f"http://ann:{secret}@127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + 120
        while not publisher.status().away and time.monotonic() < deadline:
            time.sleep(0.05)
        process = Path(f"/proc/{publisher._process.pid}")
        shown = [(process / name).read_text() for name in ("cmdline", "environ")]
    finally:
        publisher._process.kill()
        publisher._process.wait()
    assert publisher.status().away
    assert f"http://ann:***@127.0.0.1:{port}" in publisher.status().tracking_uri
    written = [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    assert not [text for text in (*shown, *written, repr(publisher.status())) if secret in text]


@pytest.mark.slow
def test_publisher_killed_again_and_again_loses_and_doubles_nothing(home: Path, sweep: Make) -> None:
    folder = sweep(trials=30)
    record = SweepRecord.read(folder)
    for runs in (3, 15):
        publisher = Publisher(folder)
        process = publisher._process
        try:
            while _count(home) < runs and process.poll() is None:
                time.sleep(0.02)
        finally:
            process.kill()
        assert process.wait() == -signal.SIGKILL
        assert read_sync_status(folder).behind > 0
    publish_sweep(folder)
    uids = sorted(run.data.tags.get("trial.uid", "") for run in _runs(home))
    assert uids == sorted([*record.trials, ""])
    assert read_back(default_uri(home), "invented") == sorted(record.trials.values(), key=lambda t: t.number)
    assert read_sync_status(folder).behind == 0


@pytest.mark.slow
def test_publisher_follows_a_growing_journal_from_its_own_process(home: Path, sweep: Make) -> None:
    source = sweep(trials=8)
    lines = (source / "journal.jsonl").read_bytes().splitlines(keepends=True)
    folder = home / "live" / "invented"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_bytes(lines[0])
    publisher = Publisher(folder, default_uri(home))
    assert str(publisher.status()) == "MLflow: nothing recorded yet"
    with (folder / "journal.jsonl").open("ab", buffering=0) as journal:
        for line in lines[1:]:
            journal.write(line)
            time.sleep(0.02)
    status = publisher.close()
    assert status.behind == 0
    assert f"{status}" == f"MLflow: complete, {default_uri(home)}"
    assert len(_runs(home)) == 10


def test_second_publisher_is_refused_with_the_reason(sweep: Make) -> None:
    folder = sweep(trials=2)
    with publisher_lock(folder), pytest.raises(WrongInput, match="another process is publishing this sweep"):
        publish_sweep(folder)
