import fcntl
import http.client
import json
import re
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from losing_proxy import losing_proxy
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.server.board import links, open_board, open_mlflow, serve_board
from paretta.dashboards.server.server_process import ended_by_any_signal
from paretta.dashboards.tracking.publisher import publish_sweep
from paretta.dashboards.tracking.reader import download, read_back
from paretta.dashboards.tracking.store import default_uri, open_store
from paretta.dashboards.tracking.sync_status import SyncStatus, write_sync_status
from paretta.search_spaces.errors import WrongInput

Make = Callable[..., Path]


@pytest.mark.slow
def test_server_that_loses_a_fifth_of_its_answers_has_every_run_once(home: Path, sweep: Make, tmp_path: Path) -> None:
    record = SweepRecord.read(sweep(trials=12))
    with open_mlflow(home) as server, losing_proxy(server, 0.2) as (url, lost):
        assert publish_sweep(record, url).behind == 0
        assert any("runs/create" in path for path in lost)
        assert read_back(url, "invented") == sorted(record.trials.values(), key=lambda trial: trial.number)
        uid = record.front().members[0].uid
        files = download(url, "invented", uid, tmp_path / "model")
        source = record.folder / "artifacts" / uid
        assert {p.name: p.read_bytes() for p in files.iterdir()} == {p.name: p.read_bytes() for p in source.iterdir()}
        with urlopen(f"{server}/", timeout=30) as page:
            assert b"MLflow" in page.read()
        with pytest.raises(OSError, match="refused"):  # an address of this machine that is not the one it listens on
            socket.create_connection(("127.0.0.2", urlsplit(server).port or 0), timeout=5)
        assert links(home, server)[0].startswith("invented: ")
    client = open_store(default_uri(home))
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    uids = [run.data.tags.get("trial.uid", "") for run in client.search_runs(ids)]
    assert sorted(uids) == sorted([*record.trials, ""])
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", urlsplit(server).port or 0), timeout=5)


def _get(url: str, **headers: str) -> tuple[int, dict[str, str], str]:
    address = urlsplit(url)
    there = http.client.HTTPConnection(address.netloc, timeout=30)
    there.request("GET", f"{address.path}?{address.query}", headers=headers)
    answer = there.getresponse()
    content = answer.read().decode()
    there.close()
    return answer.status, dict(answer.headers), content


def test_live_page_follows_the_journal_without_mlflow(tmp_path: Path) -> None:
    whole = write_sweep(tmp_path / "whole", trials=8, artifacts=False).folder / "journal.jsonl"
    lines = whole.read_bytes().splitlines(keepends=True)
    (tmp_path / "home" / "live").mkdir(parents=True)
    journal = tmp_path / "home" / "live" / "journal.jsonl"
    journal.write_bytes(b"")
    with open_board(tmp_path / "home", port=0) as board:
        assert json.loads(_get(f"{board.url}/live/data.json")[2])["objectives"] == []
        journal.write_bytes(b"".join(lines[:13]))
        driver = journal.open("rb")
        fcntl.flock(driver, fcntl.LOCK_EX)
        record = SweepRecord.read(journal.parent)
        best = ", ".join(record.front().knee().readings[o.meter].with_time for o in record.objectives)
        assert f">live</a></td><td>running</td><td>1 of 8</td><td>{best}</td><td>" in _get(f"{board.url}/")[2]
        page = _get(f"{board.url}/live/")[2]
        assert "connect-src 'self'" in page
        first = json.loads(_get(f"{board.url}/live/data.json")[2])
        assert first["version"] == journal.stat().st_size
        assert first["now"]["ended"] == 1
        again = json.loads(_get(f"{board.url}/live/data.json?version={first['version']}")[2])
        assert again.keys() == {"now", "version"}
        journal.write_bytes(b"".join(lines))
        news = json.loads(_get(f"{board.url}/live/data.json?version={first['version']}")[2])
        assert news["status"] == "done"
        assert len(news["trials"]) == 9
        driver.close()
        assert _get(f"{board.url}/nobody/")[0] == 404


def test_others_need_the_token_that_the_address_carries(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", trials=2, artifacts=False)
    with open_board(tmp_path, host="0.0.0.0", port=0) as board:
        bare, _, token = board.url.partition("/?token=")
        assert len(token) > 20
        for url in (bare + "/", f"{bare}/s/data.json?token=no", f"{bare}/s/"):
            assert _get(url)[0] == 403
        status, headers, _ = _get(board.url)
        assert status == 200
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert _get(f"{bare}/s/data.json", Cookie=cookie.partition(";")[0])[0] == 200


def test_name_of_another_machine_is_not_answered_on_loopback(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", trials=2, artifacts=False)
    with open_board(tmp_path, port=0) as board:
        assert _get(f"{board.url}/s/", Host="evil.example")[0] == 403
        assert _get(f"{board.url}/s/", Host="localhost:5000")[0] == 200


def test_an_address_without_its_slash_leads_to_the_page_and_the_page_leads_back_and_to_its_front(
    tmp_path: Path,
) -> None:
    folder = write_sweep(tmp_path / "my größe", trials=2, artifacts=False).folder
    with open_board(tmp_path, port=0) as board:
        board.links["MLflow"] = "http://127.0.0.1:9"
        status, headers, _ = _get(f"{board.url}/my%20gr%C3%B6%C3%9Fe?token=x")
        assert (status, headers["Location"]) == (301, "/my%20gr%C3%B6%C3%9Fe/?token=x")
        page = _get(f"{board.url}/my%20gr%C3%B6%C3%9Fe/")[2]
        assert '"links":{"all sweeps":"/","MLflow":"http://127.0.0.1:9"}' in page
        write_sync_status(folder, SyncStatus("sqlite:///x.db", "7", "abc"))
        page = _get(f"{board.url}/my%20gr%C3%B6%C3%9Fe/")[2]
        assert (
            '"MLflow":"http://127.0.0.1:9/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=' in page
        )


@pytest.mark.parametrize(("host", "linked"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_pages_for_others_do_not_lead_to_mlflow_which_asks_for_no_token(
    tmp_path: Path, host: str, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    pages: list[str] = []

    def look_and_end() -> None:
        pages.append(_get(said[0].partition(": ")[2])[2])
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("paretta.dashboards.server.board.open_mlflow", lambda *_: nullcontext("http://127.0.0.1:9"))
    monkeypatch.setattr("paretta.dashboards.server.server_process.signal.pause", look_and_end)
    serve_board(tmp_path, host=host, port=0, say=said.append)
    assert ("http://127.0.0.1:9" in pages[0]) is linked
    assert ("ssh -N -L 9:127.0.0.1:9" in "".join(said)) is not linked
    assert said[-1] == "stopped"


def test_signals_end_servers_but_for_those_that_nohup_ignores() -> None:
    asked, before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    try:
        with ended_by_any_signal():
            signal.raise_signal(signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, asked)
    assert signal.getsignal(signal.SIGTERM) is before


def test_taken_port_is_told(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            WrongInput, match=f"--port: the port cannot be used: .*; got {port}; --port 0 picks a free one"
        ):
            open_board(home, port=port).__enter__()


def test_the_board_works_without_an_unavailable_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("paretta.dashboards.server.server_process.signal.pause", interrupt)
    serve_board(tmp_path, "http://127.0.0.1:9", port=0, say=said.append)
    assert said[0].startswith("sweeps: http://127.0.0.1:")
    assert "only the pages above are served: --tracking-uri: the store cannot be reached" in said[1]


def _cut(line: bytes) -> bytes:
    return line[: len(line) // 2] + b"\n"


def test_damaged_record_is_shown_as_such_and_every_other_sweep_as_ever(tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        write_sweep(tmp_path / name, trials=4, artifacts=False)
    journal = tmp_path / "cut" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:5], _cut(lines[5]), *lines[6:]]))
    (tmp_path / "folder" / "journal.jsonl").mkdir(parents=True)
    with open_board(tmp_path, port=0) as board:
        status, _, page = _get(f"{board.url}/")
        assert status == 200
        assert f'<td>damaged</td><td colspan="4">{journal}:6: this sweep&#x27;s record is damaged: not JSON' in page
        assert ">whole</a></td><td>done</td><td>4 of 4</td>" in page
        assert ">folder</a></td><td>damaged</td>" in page
        assert _get(f"{board.url}/whole/data.json")[0] == 200
        status, _, page = _get(f"{board.url}/cut/")
        assert (status, page.count("\n")) == (500, 1)
        assert page.startswith(f"{journal}:6: ")
        journal.write_bytes(b"".join(lines))
        assert _get(f"{board.url}/cut/data.json")[0] == 200
    assert links(tmp_path, "http://127.0.0.1:9") == [
        f"folder: [Errno 21] Is a directory: '{tmp_path}/folder/journal.jsonl'"
    ]


@pytest.mark.parametrize("name", ["my sweep", "größe", "a%2e", "q?x", "h#x", "1+1=2 & <b>"])
def test_sweep_of_any_name_has_a_link_that_leads_to_it(tmp_path: Path, name: str) -> None:
    write_sweep(tmp_path / "h", trials=2, artifacts=False)
    (tmp_path / "h").rename(tmp_path / name)
    with open_board(tmp_path, port=0) as board:
        (link,) = re.findall(r'<a href="(/[^"]+/)">', _get(f"{board.url}/")[2])
        assert json.loads(_get(f"{board.url}{link}data.json")[2])["at"] == f"--home {tmp_path}"


def test_sweep_of_a_dead_driver_says_how_to_resume_it(tmp_path: Path) -> None:
    write_sweep(tmp_path / "left", trials=4, finished=False, artifacts=False)
    with open_board(tmp_path, port=0) as board:
        how = f"resume with: paretta launch --resume left --home {tmp_path}"
        assert f"<td>died, {how}</td>" in _get(f"{board.url}/")[2]
        shown = json.loads(_get(f"{board.url}/left/data.json")[2])
        assert (shown["status"], shown["reason"]) == ("died", how)
        with Journal(tmp_path / "left"):
            alive = json.loads(_get(f"{board.url}/left/data.json?version={shown['version']}")[2])
        assert (alive["status"], alive["reason"]) == ("running", None)


def _raw(url: str, sent: bytes) -> socket.socket:
    address = urlsplit(url)
    there = socket.create_connection((str(address.hostname), address.port or 0), timeout=10)
    there.sendall(sent)
    return there


def test_half_a_request_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretta.dashboards.server.live._Handler.timeout", 0.2)
    with open_board(tmp_path, port=0) as board, _raw(board.url, b"GET / HTTP/1.1\r\nX: ") as half:
        assert half.recv(1) == b""  # the server closed it


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("/ HTTP/1.1\r\nHost: [", b"403"),
        ("/ HTTP/1.1\r\nHost: a b", b"403"),
        ("/ HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: a[]=1; \x01=2", b"200"),
        ("http://[ HTTP/1.1\r\nHost: 127.0.0.1", b"400"),
        ("/%00/ HTTP/1.1\r\nHost: 127.0.0.1", b"404"),
    ],
)
def test_odd_requests_have_an_answer(tmp_path: Path, head: str, status: bytes) -> None:
    with open_board(tmp_path, port=0) as board, _raw(board.url, f"GET {head}\r\n\r\n".encode()) as odd:
        assert odd.recv(12) == b"HTTP/1.1 " + status


def test_dropped_connection_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_sweep(tmp_path / "s", trials=40, artifacts=False)
    with open_board(tmp_path, port=0) as board:
        there = _raw(board.url, b"GET /s/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 40)
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()  # with a reset, while answers are being written
        until = time.monotonic() + 20
        while not caplog.records and time.monotonic() < until:
            time.sleep(0.02)
    (line,) = caplog.messages
    assert line.startswith("board: a connection was dropped: ")
