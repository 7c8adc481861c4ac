"""The board: live pages of all sweeps in a home folder, and MLflow's own pages for its store."""

import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from paretta.dashboards.journal.home_names import sweep_folders
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.server.live import open_live
from paretta.dashboards.server.server_process import (
    LOOPBACK,
    address,
    ended_by_any_signal,
    free_port,
    is_loopback,
    serving,
    wait_until_interrupted,
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
# MLflow's job queue would add six processes and two gigabytes for features that a sweep does not use.
MLFLOW_ENVIRONMENT: Final = {**ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@dataclass(frozen=True, slots=True)
class Board:
    """A running board.

    Args:
        url: URL of the live pages, with its token if they need one.
        home: the folder of the sweeps.
        links: URLs of further pages that the live pages link to, by name; may be extended while they run.
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
    """Serve the live pages and MLflow's pages until interrupted; without MLflow, only the live pages are served.

    Args:
        home: the folder of the sweeps.
        tracking_uri: the store; by default the SQLite file in `home`. If it is a server, its pages are only linked.
        host: address to listen on. Any but loopback requires a token; MLflow's pages, which know none, stay on
            loopback.
        port: port of the live pages; 0 picks a free one.
        say: called with each line to show to the user.

    Raises:
        WrongInput: the port cannot be used.
    """
    with ended_by_any_signal(), open_board(home, host=host, port=port) as board, ExitStack() as mlflow:
        say(f"sweeps: {board.url}")
        try:
            url = mlflow.enter_context(open_mlflow(home, tracking_uri))
        except ParettaError as error:
            say(f"MLflow: not available, only the pages above are served: {error}")
        else:
            say(f"MLflow: {url}")
            parts = urlsplit(url)
            if is_loopback(host) or not is_loopback(str(parts.hostname)):
                board.links["MLflow"] = url
            else:
                tunnel = f"ssh -N -L {parts.port}:{LOOPBACK}:{parts.port} THIS_HOST"
                say(f"MLflow has no token, so it can be reached from this machine only; elsewhere use: {tunnel}")
            for line in links(home, url):
                say(line)
        wait_until_interrupted(say)


@contextmanager
def open_board(home: Path, *, host: str = LOOPBACK, port: int = BOARD_PORT) -> Iterator[Board]:
    """Serve the live pages while the context is open. Raises `WrongInput` if the port cannot be used."""
    token, links = "" if is_loopback(host) else secrets.token_urlsafe(18), dict[str, str]()
    with open_live(home, host=host, port=free_port(host, port), token=token, links=links) as url:
        yield Board(f"{url}/?token={token}" if token else url, home, links)


@contextmanager
def open_mlflow(home: Path, tracking_uri: str | None = None) -> Iterator[str]:
    """Run MLflow's server for the store on a free loopback port while the context is open; yield its URL.

    If the store itself is a server, nothing is started and its URL is yielded.

    Raises:
        WrongInput: the store cannot be reached.
        ParettaError: the server did not start.
    """
    uri = tracking_uri or default_uri(home)
    probe(uri, existing=tracking_uri is not None)
    if is_server(uri):
        yield without_login(uri).rstrip("/")  # users log in with their own credentials
        return
    port = free_port(LOOPBACK, 0)
    open_store(uri)  # create the tables once: servers that do so concurrently corrupt an SQLite file
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", str(default_artifacts(uri, home))]
    # not as an argument: every user of the machine can see those, and a store's URI may contain a password
    environment = {**MLFLOW_ENVIRONMENT, "MLFLOW_BACKEND_STORE_URI": uri}
    url = address(LOOPBACK, port)
    with serving(command, f"{url}/health", log=home / _LOG_FILE, cwd=home, environment=environment):
        yield url


def links(home: Path, server: str) -> list[str]:
    """Return two lines per sweep that MLflow has, the latest first: links to its front and to its run.

    Archived sweeps are left out. A sweep with a damaged journal gets one line that says so.
    """
    records, damaged = [], []
    for folder in sweep_folders(home, archived=False):
        try:
            records.append(SweepRecord.read(folder))
        except (ParettaError, OSError) as error:
            damaged.append(f"{folder.name}: {first_line(error)}")
    recorded = [(record, at) for record in records if (at := read_sync_status(record.folder)).run_id]
    recorded.sort(key=lambda pair: pair[0].started, reverse=True)
    lines = damaged
    for record, at in recorded:
        lines.append(f"{record.name}: {view_link(record, at.experiment_id, 'front', server)}")
        lines.append(f"{' ' * len(record.name)}  {run_link(at.experiment_id, at.run_id, server=server)}")
    return lines
