"""The board: the live pages of a home's sweeps, beside MLflow's own pages over its store."""

import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from paretta.dashboards.journal.journal import JOURNAL_FILE
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.server.live import open_live
from paretta.dashboards.server.server_process import (
    LOOPBACK,
    address,
    ended_by_any_signal,
    free_port,
    is_loopback,
    serving,
)
from paretta.dashboards.tracking.store import (
    ENVIRONMENT,
    default_artifacts,
    default_uri,
    is_server,
    open_store,
    probe,
    without_login,
)
from paretta.dashboards.tracking.sync_status import read_sync_status
from paretta.dashboards.tracking.views import run_link, view_link
from paretta.search_spaces.errors import ParettaError, first_line

BOARD_PORT: Final = 5000
_LOG_FILE: Final = "board.log"
# The job queue is six more processes and two gigabytes, for features that a sweep does not use.
MLFLOW_ENVIRONMENT: Final = {**ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@dataclass(frozen=True, slots=True)
class Board:
    """Running pages.

    Args:
        url: of the live pages, with its token where it needs one.
        home: the folder of the sweeps.
        links: the further pages that the live ones link to, by name; may grow.
    """

    url: str
    home: Path
    links: dict[str, str]


def serve_board(
    home: Path,
    tracking_uri: str | None = None,
    *,
    host: str = LOOPBACK,
    port: int = BOARD_PORT,
    say: Callable[[str], object] = print,
) -> None:
    """Serve the live pages and MLflow's until interrupted; the live ones do without MLflow where it has to.

    Args:
        home: the folder of the sweeps.
        tracking_uri: the store; by default the SQLite file in `home`. Of a server's store only the links are said.
        host: to listen on. Anything but loopback takes a token; MLflow's pages, which ask for none, stay on loopback.
        port: of the live pages; 0 takes a free one.
        say: where lines for a person go.

    Raises:
        WrongInput: the port cannot be used.
    """
    with ended_by_any_signal(), open_board(home, host=host, port=port) as board, ExitStack() as mlflow:
        say(f"sweeps: {board.url}")
        try:
            url = mlflow.enter_context(open_mlflow(home, tracking_uri))
        except ParettaError as error:
            say(f"MLflow: not there, the pages above do without it: {error}")
        else:
            say(f"MLflow: {url}")
            there = urlsplit(url)
            if is_loopback(host) or not is_loopback(str(there.hostname)):
                board.links["MLflow"] = url
            else:
                tunnel = f"ssh -N -L {there.port}:{LOOPBACK}:{there.port} THIS_HOST"
                say(f"MLflow asks for no token, so only this machine reaches it; from elsewhere through: {tunnel}")
            for line in links(home, url):
                say(line)
        say("Ctrl-C ends it.")
        try:
            signal.pause()
        except KeyboardInterrupt:
            say("ended")


@contextmanager
def open_board(home: Path, *, host: str = LOOPBACK, port: int = BOARD_PORT) -> Iterator[Board]:
    """Start the live pages, give them, and end them. Raises `WrongInput` where the port cannot be used."""
    token, further = "" if is_loopback(host) else secrets.token_urlsafe(18), dict[str, str]()
    with open_live(home, host=host, port=free_port(host, port), token=token, links=further) as url:
        yield Board(f"{url}/?token={token}" if token else url, home, further)


@contextmanager
def open_mlflow(home: Path, tracking_uri: str | None = None) -> Iterator[str]:
    """Start MLflow's server over the store on a free loopback port, give its URL once it answers, and end it.

    Where the store is a server already, its own URL is given.

    Raises:
        WrongInput: the store cannot be reached.
        ParettaError: the server did not start.
    """
    uri = tracking_uri or default_uri(home)
    probe(uri)
    if is_server(uri):
        yield without_login(uri).rstrip("/")  # who browses logs in by himself
        return
    port = free_port(LOOPBACK, 0)
    open_store(uri)  # the tables are made here, once: servers that do so side by side break an SQLite file
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", str(default_artifacts(uri, home))]
    # not as an argument: everybody on the machine sees those, and a store's URI may hold a password
    environment = {**MLFLOW_ENVIRONMENT, "MLFLOW_BACKEND_STORE_URI": uri}
    url = address(LOOPBACK, port)
    with serving(command, f"{url}/health", log=home / _LOG_FILE, cwd=home, environment=environment):
        yield url


def links(home: Path, server: str) -> list[str]:
    """Return two lines per recorded sweep of the home, the latest first: its front and its run in MLflow's pages.

    One whose record is damaged has a line that says so.
    """
    records, damaged = [], []
    for path in sorted(home.glob(f"*/{JOURNAL_FILE}")):
        try:
            records.append(SweepRecord.read(path.parent))
        except (ParettaError, OSError) as error:
            damaged.append(f"{path.parent.name}: {first_line(error)}")
    recorded = [(record, at) for record in records if (at := read_sync_status(record.folder)).run_id]
    recorded.sort(key=lambda pair: pair[0].started, reverse=True)
    lines = damaged
    for record, at in recorded:
        lines.append(f"{record.name}: {view_link(record, at.experiment_id, 'front', server)}")
        lines.append(f"{' ' * len(record.name)}  {run_link(at.experiment_id, at.run_id, server=server)}")
    return lines
