import http.client
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from dashboards.board import open_board
from dashboards.fetch import download, read_back
from dashboards.journal import SweepRecord
from dashboards.publisher import publish
from dashboards.store import default_uri, open_store
from search_spaces.errors import WrongInput

Make = Callable[..., Path]


@contextmanager
def _losing_proxy(target: str, share: float) -> Iterator[tuple[str, list[str]]]:
    """Pass everything on to `target`, but drop a `share` of the answers to what changes something."""
    rng, lost = random.Random(11), []

    class Pass(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            there = http.client.HTTPConnection(urlsplit(target).netloc, timeout=60)
            there.request(self.command, self.path, body, {**self.headers, "Host": urlsplit(target).netloc})
            answer = there.getresponse()
            content = answer.read()
            there.close()
            if self.command != "GET" and "search" not in self.path and rng.random() < share:
                lost.append(self.path)
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815  names that http.server looks up

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pass) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", lost
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_server_that_loses_a_fifth_of_its_answers_has_every_run_once(home: Path, sweep: Make, tmp_path: Path) -> None:
    record = SweepRecord.read(sweep(trials=12))
    with open_board(home, port=0) as board, _losing_proxy(board.url, 0.2) as (url, lost):
        assert publish(record, url).behind == 0
        assert any("runs/create" in path for path in lost)
        assert read_back(url, "invented") == sorted(record.trials.values(), key=lambda trial: trial.number)
        uid = record.front().members[0].uid
        files = download(url, "invented", uid, tmp_path / "model")
        source = record.folder / "artifacts" / uid
        assert {p.name: p.read_bytes() for p in files.iterdir()} == {p.name: p.read_bytes() for p in source.iterdir()}
        with urlopen(f"{board.url}/", timeout=30) as page:
            assert b"MLflow" in page.read()
        assert board.links()[0].startswith("invented: ")
    client = open_store(default_uri(home))
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    uids = [run.data.tags.get("trial.uid", "") for run in client.search_runs(ids)]
    assert sorted(uids) == sorted([*record.trials, ""])
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", urlsplit(board.url).port or 0), timeout=5)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "example.org"])
def test_pages_without_a_password_stay_on_loopback(home: Path, host: str) -> None:
    with pytest.raises(WrongInput, match="served on loopback only"), open_board(home, host=host, port=0):
        pass


def test_taken_port_is_told(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WrongInput, match=f"--port: the port cannot be used: .*; got {port}; --port 0 finds one"):
            open_board(home, port=port).__enter__()
