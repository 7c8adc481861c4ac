"""`mlflow server` over PostgreSQL and an S3 store, both real, behind a proxy that drops responses and has outages."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import chown, rmtree

import boto3
import pytest
from losing_proxy import losing_proxy
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.summary import holders
from paretta.dashboards.server.board import MLFLOW_ENVIRONMENT
from paretta.dashboards.server.server_process import LOOPBACK, address, free_port, serving
from paretta.dashboards.tracking.publisher import publish_sweep
from paretta.dashboards.tracking.reader import download, download_registered, read_back
from paretta.dashboards.tracking.store import open_store
from paretta.search_spaces.objectives.roles import alias

POSTGRESQL = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(POSTGRESQL is None, reason="Debian's postgresql is not installed"),
]


@contextmanager
def _postgresql() -> Iterator[str]:
    """Run a separate database as a non-root user, which PostgreSQL requires, and yield its URI."""
    assert POSTGRESQL
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="paretta-pg-", dir="/tmp"))
    if user:
        chown(folder, user, user)
    port, log = free_port(LOOPBACK, 0), folder / "log"
    made = [POSTGRESQL / "initdb", "-D", folder / "data", "-U", "postgres", "--auth=trust", "--no-sync"]
    subprocess.run(made, user=user, cwd=folder, check=True, capture_output=True)
    options = {"listen_addresses": LOOPBACK, "port": port, "unix_socket_directories": folder, "fsync": "off"}
    command = [POSTGRESQL / "postgres", "-D", folder / "data"]
    command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    with log.open("wb") as file, subprocess.Popen(command, user=user, cwd=folder, stdout=file, stderr=file) as process:
        try:
            ready = [POSTGRESQL / "pg_isready", "-h", LOOPBACK, "-p", str(port), "-q"]
            while subprocess.run(ready, check=False).returncode:
                assert process.poll() is None, log.read_text()
            yield f"postgresql+psycopg://postgres@{LOOPBACK}:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)
    rmtree(folder)


@contextmanager
def _s3(folder: Path) -> Iterator[str]:
    """Run moto's S3 with one bucket, and give its endpoint."""
    port = free_port(LOOPBACK, 0)
    endpoint = address(LOOPBACK, port)
    command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)]
    with serving(command, f"{endpoint}/moto-api/", log=folder / "s3.log", cwd=folder, environment={}):
        _client(endpoint).create_bucket(Bucket="models")
        yield endpoint


def _client(endpoint: str):  # type: ignore[no-untyped-def]  # boto3 makes its classes as it runs
    names = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=endpoint, **names)


@contextmanager
def _mlflow(folder: Path, database: str, endpoint: str) -> Iterator[str]:
    port = free_port(LOOPBACK, 0)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--host", LOOPBACK]
    command += ["--port", str(port), "--workers", "1", "--artifacts-destination", "s3://models/paretta"]
    environment = {**MLFLOW_ENVIRONMENT, **KEYS, "MLFLOW_S3_ENDPOINT_URL": endpoint}
    url = address(LOOPBACK, port)
    with serving(command, f"{url}/health", log=folder / "mlflow.log", cwd=folder, environment=environment):
        yield url


def test_outage_and_lost_answers_lose_and_double_nothing_on_postgresql_and_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = write_sweep(tmp_path / "sweeps" / "invented", trials=5)
    # forty refusals in a row: with the back-off's own pauses more than nine minutes, here none
    monkeypatch.setattr("paretta.dashboards.tracking.publisher._PAUSES", (0.0,))
    with (
        _postgresql() as database,
        _s3(tmp_path) as endpoint,
        _mlflow(tmp_path, database, endpoint) as server,
        losing_proxy(server, 0.2, outage=range(40, 80)) as (url, lost),
    ):
        assert publish_sweep(record, url, patience=1e9).behind == 0
        assert len(lost) > 45
        assert read_back(url, "invented") == sorted(record.trials.values(), key=lambda trial: trial.number)
        client = open_store(server)
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        uids = [run.data.tags.get("trial.uid", "") for run in client.search_runs(ids)]
        assert sorted(uids) == sorted([*record.trials, ""])
        members = [trial.uid for trial in record.front()]
        models = [model.tags["trial.uid"] for model in client.search_logged_models(ids)]
        assert sorted(models) == sorted(members)
        held = {alias(role): trial.uid for role, trial in holders(record.front()).items()}
        versions = client.search_model_versions("name = 'invented'")
        assert sorted(v.tags["trial.uid"] for v in versions) == sorted(set(held.values()))
        listed = _client(endpoint).list_objects_v2(Bucket="models", Prefix="paretta/")["Contents"]
        assert sum(item["Key"].endswith("/model.onnx") for item in listed) == len(members)
        for to in (
            download(server, "invented", held["knee"], tmp_path / "by-trial"),
            download_registered(server, "models:/invented@knee", tmp_path / "by-role"),
        ):
            source = record.folder / "artifacts" / held["knee"]
            assert {p.name: p.read_bytes() for p in to.iterdir()} == {p.name: p.read_bytes() for p in source.iterdir()}
