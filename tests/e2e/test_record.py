"""The driver of a real sweep and its publisher are killed; a real `mlflow server` still holds every trial once."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from disturbed import SMALL_SWEEP, started, until, user_folder
from mlflow.entities import Run

from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.server.board import open_mlflow
from paretta.dashboards.tracking.publisher import publish_sweep
from paretta.dashboards.tracking.reader import read_back
from paretta.dashboards.tracking.sync_status import read_sync_status

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]  # a busy machine needs minutes for three launches


@dataclass(frozen=True, slots=True)
class Home:
    folder: Path
    server: str

    @property
    def sweep(self) -> Path:
        return self.folder / "sweeps" / "sweep"

    def launch(self, *arguments: str) -> subprocess.Popen[str]:
        return started(self.folder, *arguments, "--tracking-uri", self.server)

    def until(self, count: int, driver: subprocess.Popen[str]) -> None:
        """Wait until `count` trials have ended, the store knows the sweep, and the next trial trains."""

        def ready(record: SweepRecord) -> bool:
            return (
                record.count("complete") >= count
                and bool(record.progress)
                and bool(read_sync_status(self.sweep).run_id)
            )

        until(ready, self.sweep, driver)

    def kill_publisher(self) -> None:
        (publisher,) = self._publishers()
        os.kill(publisher, signal.SIGKILL)
        self.wait_for_publisher()

    def wait_for_publisher(self) -> None:
        deadline = time.monotonic() + 120
        while self._publishers() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not self._publishers()

    def _publishers(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it ended meanwhile
            if b"paretta.dashboards.tracking.publisher" in words and str(self.sweep).encode() in words:
                found.append(int(entry.name))
        return found

    def runs(self) -> list[Run]:
        client = mlflow.MlflowClient(self.server)
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(ids, max_results=100))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("record")
    user_folder(folder, SMALL_SWEEP)
    (folder / "server").mkdir()
    with open_mlflow(folder / "server") as server:
        yield Home(folder, server)


def test_a_killed_driver_and_publisher_lose_and_double_nothing(home: Home) -> None:
    driver = home.launch("sweep.yaml")
    home.until(1, driver)
    driver.kill()
    driver.communicate()
    home.wait_for_publisher()  # it writes the rest of the journal, and exits because its driver is gone
    assert read_sync_status(home.sweep).behind == 0
    known = {run.data.tags.get("trial.uid", ""): run.info.run_id for run in home.runs()}
    assert known.keys() == {"", *SweepRecord.read(home.sweep).trials}

    driver = home.launch("--resume", "sweep")
    home.until(2, driver)
    home.kill_publisher()
    driver.kill()
    driver.communicate()
    assert publish_sweep(home.sweep, home.server).behind == 0  # from the journal alone

    driver = home.launch("--resume", "sweep")
    told, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0, told
    record, runs = SweepRecord.read(home.sweep), home.runs()
    assert read_sync_status(home.sweep).behind == 0
    assert sorted(run.data.tags.get("trial.uid", "") for run in runs) == sorted(["", *record.trials])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert known.items() <= {run.data.tags.get("trial.uid", ""): run.info.run_id for run in runs}.items()
    assert read_back(home.server, "sweep") == sorted(record.trials.values(), key=lambda trial: trial.number)
    lineage = {run.data.tags.get("lineage.reused") for run in runs if run.data.tags["sweep.kind"] == "trial"}
    # what a trial had made itself when its driver was killed, in the middle of its training or after it
    own = [f"; {made} by itself, before an interruption" for made in ("prune", "prune, train")]
    assert lineage <= {f"train by baseline{more}" for more in ("", *own)}
    parent = next(run for run in runs if run.data.tags["sweep.kind"] == "sweep")
    steps = mlflow.MlflowClient(home.server).get_metric_history(parent.info.run_id, "front/hypervolume")
    assert [point.step for point in steps] == list(range(1, len(record.endings) + 1))
