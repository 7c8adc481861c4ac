import socket
import sqlite3
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from threaded_server import answered_by

from paretta.dashboards.tracking import store
from paretta.dashboards.tracking.store import open_existing, probe
from paretta.search_spaces.errors import WrongInput


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def status_server() -> Iterator[tuple[str, list[int]]]:
    """A server that answers /health with the status in the list."""
    status = [200]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status[0] if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with answered_by(Answer) as url:
        yield url, status


def test_reachable_stores_pass(tmp_path: Path, home: Path, status_server: tuple[str, list[int]]) -> None:
    probe(f"sqlite:///{tmp_path}/not/there/yet.db")
    probe(store.default_uri(home))
    probe(status_server[0])
    assert not (tmp_path / "not").exists()


def test_a_store_that_must_be_there_already_is_not_created(tmp_path: Path, home: Path) -> None:
    (tmp_path / "empty.db").touch()
    for name in ("new.db", "empty.db"):
        with pytest.raises(WrongInput, match=rf"there is none in .*{name}; got 'sqlite.*; name the file in which"):
            open_existing(f"sqlite:///{tmp_path / name}")
    assert (tmp_path / "empty.db").stat().st_size == 0
    assert not (tmp_path / "new.db").exists()
    assert open_existing(store.default_uri(home)).search_experiments()


def test_server_nobody_started(closed_port: int) -> None:
    with pytest.raises(WrongInput, match=r"--tracking-uri: the store cannot be reached: .*refused"):
        probe(f"http://127.0.0.1:{closed_port}")


def test_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PROBE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(WrongInput, match="timed out"):
        probe(f"http://127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize(("status", "said"), [(403, "MLFLOW_TRACKING_USERNAME"), (503, "HTTP 503")])
def test_server_that_refuses_is_told_with_the_mend(
    status_server: tuple[str, list[int]], status: int, said: str
) -> None:
    status_server[1][0] = status
    with pytest.raises(WrongInput, match=said):
        probe(status_server[0])


def test_database_nobody_started(closed_port: int) -> None:
    with pytest.raises(WrongInput) as caught:
        probe(f"postgresql://ann:secret@127.0.0.1:{closed_port}/mlflow")
    assert "refused" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:"])
def test_sqlite_needs_a_file(uri: str) -> None:
    with pytest.raises(WrongInput, match="needs a file"):
        probe(uri)


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at as one" * 20)
    with pytest.raises(WrongInput, match="not a database"):
        probe(f"sqlite:///{tmp_path}/text.db")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("create table cats (name text)")
    with pytest.raises(WrongInput, match="is not an MLflow database"):
        probe(f"sqlite:///{tmp_path}/other.db")


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongInput, match="cannot be written"):
        probe(f"sqlite:///{tmp_path}/file/mlflow.db")


@pytest.mark.parametrize("uri", ["sqlite:////", "sqlite:////tmp", "sqlite:///."])
def test_a_folder_is_no_sqlite_store(uri: str) -> None:
    with pytest.raises(WrongInput, match=r"is a folder; .*name a file"):
        probe(uri)


@pytest.mark.parametrize("uri", ["sqllite:///x.db", "./mlruns", "file:///tmp/mlruns", "htp://127.0.0.1:5000"])
def test_unknown_kind_of_store_is_answered_with_the_known(uri: str) -> None:
    with pytest.raises(WrongInput, match="known: http, https, mssql, mysql, postgresql, sqlite"):
        probe(uri)
