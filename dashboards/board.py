"""MLflow's pages over the store of a home, on loopback, opening on the sweeps' fronts."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from dashboards.journal import JOURNAL_FILE, SweepRecord
from dashboards.mlflow_views import run_link, view_link
from dashboards.standing import read_standing
from dashboards.store import ENVIRONMENT, default_artifacts, default_uri, open_store, probe
from search_spaces.errors import ParettaError, Problem, WrongInput

DEFAULT_PORT: Final = 5000
_LOG_FILE: Final = "board.log"
_START_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Board:
    """A running page.

    Args:
        url: of the MLflow server.
        home: the folder of the sweeps.
    """

    url: str
    home: Path

    def links(self) -> list[str]:
        """Return a line per recorded sweep of the home, the latest first: its name, its front and its run."""
        recorded = [(r, s) for r in _records(self.home) if (s := read_standing(r.folder)).run_id]
        recorded.sort(key=lambda pair: pair[0].started, reverse=True)
        lines = []
        for record, standing in recorded:
            lines.append(f"{record.name}: {view_link(record, standing.experiment_id, 'front', self.url)}")
            lines.append(
                f"{' ' * len(record.name)}  {run_link(standing.experiment_id, standing.run_id, server=self.url)}"
            )
        return lines


def serve_board(
    home: Path,
    tracking_uri: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    say: Callable[[str], object] = print,
) -> None:
    """Serve MLflow's pages until interrupted.

    Args:
        home: the folder of the sweeps.
        tracking_uri: the store; by default the SQLite file in `home`. Of a server's store only the links are said.
        host: a loopback address.
        port: 0 takes a free one.
        say: where lines for a person go.

    Raises:
        WrongInput: the store cannot be reached, the port is taken, or the host is not a loopback address.
        ParettaError: the server did not start.
    """
    with open_board(home, tracking_uri, host=host, port=port) as board:
        say(f"MLflow: {board.url}")
        for line in board.links():
            say(line)
        say("Ctrl-C ends it.")
        try:
            signal.pause()
        except KeyboardInterrupt:
            say("ended")


@contextmanager
def open_board(
    home: Path, tracking_uri: str | None = None, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT
) -> Iterator[Board]:
    """Start the server of `serve_board`, give it once it answers, and end it."""
    uri = tracking_uri or default_uri(home)
    probe(uri)
    if uri.startswith("http"):
        yield Board(uri.rstrip("/"), home)
        return
    port = _free_port(host, port)
    open_store(uri)  # the tables are made here, once: servers that do so side by side break an SQLite file
    process = _start_server(home, uri, host, port)
    try:
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        _wait_until_it_answers(url, process, home / _LOG_FILE)
        yield Board(url, home)
    finally:
        _end(process)


def _free_port(host: str, port: int) -> int:
    if host != "localhost" and not _is_loopback(host):
        mend = "use 127.0.0.1 and a tunnel: ssh -L 5000:127.0.0.1:5000 HOST"
        raise WrongInput(
            Problem("--host", "the pages have no password, so they are served on loopback only", host, mend)
        )
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
            return int(server.getsockname()[1])
    except OSError as error:
        raise WrongInput(
            Problem("--port", f"the port cannot be used: {error.strerror}", port, "--port 0 finds one")
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _start_server(home: Path, uri: str, host: str, port: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", host]
    command += ["--port", str(port), "--workers", "1", "--default-artifact-root", str(default_artifacts(uri, home))]
    # The job queue is six more processes and two gigabytes, for features that a sweep does not use.
    environment = {**os.environ, **ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (home / _LOG_FILE).open("wb") as log:
        return subprocess.Popen(  # noqa: S603  our own command
            command,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # so that the server and its workers end together
        )


def _wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urlopen(f"{url}/health", timeout=5):  # noqa: S310  our own server
                return
        except (URLError, OSError):
            time.sleep(0.2)
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise ParettaError(f"the MLflow server did not start; {log} says: {' | '.join(last)}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(_STOP_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _records(home: Path) -> list[SweepRecord]:
    return [SweepRecord.read(path.parent) for path in sorted(home.glob(f"*/{JOURNAL_FILE}"))]
