"""Locating, checking and opening the MLflow store, with telemetry and hidden retries disabled."""

import fcntl
import os
import re
import socket
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from paretta.dashboards.tracking.mlflow_private import create_tables
from paretta.search_spaces.errors import ParettaError, Problem, WrongInput, did_you_mean, first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DATABASE_FILE: Final = "mlflow.db"
ARTIFACT_FOLDER: Final = "mlartifacts"
DATABASES: Final = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS: Final = ("http", "https")
PROBE_SECONDS: Final = 5.0
_OLDEST_FIRST: Final = ["attributes.start_time ASC"]

# A retried POST would create a second run, so the client never retries; callers back off, and look up before creating.
ENVIRONMENT: Final[Mapping[str, str]] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class StoreUnavailable(ParettaError):
    """The store did not respond, or is temporarily unable to; nothing is lost, so try again later."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Convert errors of MLflow, its database or the network into `StoreUnavailable`."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        # without its cause, whose message may contain the store's URI with its password
        raise StoreUnavailable(without_password(first_line(error))) from None


def default_uri(home: Path) -> str:
    """Return the store of `home`: one SQLite file in it.

    >>> default_uri(Path("/data/sweeps"))
    'sqlite:////data/sweeps/mlflow.db'
    """
    return sqlite_uri(home / DATABASE_FILE)


def sqlite_uri(database: Path) -> str:
    """Return the URI of an SQLite file, with special characters in its path encoded.

    >>> sqlite_uri(Path("/data/my #1/mlflow.db")), sqlite_uri(Path("/50%?/mlflow.db"))
    ('sqlite:////data/my #1/mlflow.db', 'sqlite+pysqlite:////50%25%3F/mlflow.db')
    """
    path = str(database.absolute())
    if not {"%", "?"} & set(path):
        return f"sqlite:///{path}"
    # SQLAlchemy decodes the path; with the driver named, MLflow does not create a folder with the encoded name
    return f"sqlite+pysqlite:///{path.replace('%', '%25').replace('?', '%3F')}"


def default_artifacts(tracking_uri: str, home: Path) -> str | None:
    """Return the URI where a new experiment stores its artifacts; None leaves it to the store's server.

    >>> default_artifacts("sqlite:////data/sweeps/mlflow.db", Path("/elsewhere"))
    'file:///data/sweeps/mlartifacts'
    >>> default_artifacts("http://127.0.0.1:5000", Path("/data/sweeps")) is None
    True
    """
    if is_server(tracking_uri):
        return None
    database = _sqlite_path(tracking_uri)
    return ((database.parent if database else home.absolute()) / ARTIFACT_FOLDER).as_uri()


def is_server(tracking_uri: str) -> bool:
    """Return whether the store is behind a server.

    >>> is_server("http://127.0.0.1:5000"), is_server("sqlite:///mlflow.db")
    (True, False)
    """
    return _scheme(tracking_uri) in SERVERS


def open_store(tracking_uri: str) -> "MlflowClient":
    """Return a client of the store; a missing SQLite database is created first, safely if several processes do so.

    Imports MLflow, which costs seconds of CPU. Raises `StoreUnavailable` if the database cannot be created.
    """
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    from mlflow import MlflowClient  # noqa: PLC0415  heavy

    database = _sqlite_path(tracking_uri)
    if database:
        with store_errors():
            _create_once(tracking_uri, database)
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def _create_once(tracking_uri: str, database: Path) -> None:
    """Create or upgrade the tables under a lock: two processes doing so at once corrupt an SQLite file."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{database}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        create_tables(tracking_uri, (database.parent / ARTIFACT_FOLDER).as_uri())


def search_runs(
    client: "MlflowClient", experiment_ids: Sequence[str], filter_string: str, stage: int = 1
) -> "Iterator[Run]":
    """Yield the runs that match, oldest first: the active ones, or with `stage` 2 those in MLflow's trash.

    The order is by an attribute, because ordering by a metric makes the store sort all runs again for each page.
    """
    token: str | None = None
    while True:
        found = client.search_runs(list(experiment_ids), filter_string, stage, 1000, _OLDEST_FIRST, token)
        yield from found
        token = found.token
        if not token:
            return


def open_existing(tracking_uri: str) -> "MlflowClient":
    """Return a client of a store that is there already, for what only reads or mends: no database is created.

    Raises `WrongInput` if the store cannot be reached or does not exist, and `StoreUnavailable` as `open_store` does.
    """
    probe(tracking_uri, existing=True)
    return open_store(tracking_uri)


def probe(tracking_uri: str, *, existing: bool = False) -> None:
    """Check within about ten seconds that the store can be reached, without importing MLflow or writing anything.

    With `existing`, an SQLite file that does not exist or is empty, in which others would create a store, is refused.

    Raises `WrongInput`, which names the URI, the problem and the fix.
    """
    scheme = _scheme(tracking_uri)
    if scheme in SERVERS:
        _probe_server(tracking_uri)
    elif scheme == "sqlite":
        _probe_sqlite(tracking_uri, existing=existing)
    elif scheme in DATABASES:
        _probe_database(tracking_uri)
    else:
        known = did_you_mean(scheme, (*DATABASES, *SERVERS), "kind of store")
        raise _unreachable(tracking_uri, known, "give sqlite:///FILE, postgresql+psycopg://... or http://HOST:PORT")


def _probe_server(tracking_uri: str) -> None:
    hint = "start `mlflow server` there, or leave out --tracking-uri to use a local file"
    request = Request(f"{tracking_uri.rstrip('/')}/health")  # noqa: S310  http or https by its scheme
    try:
        with urlopen(request, timeout=PROBE_SECONDS) as answer:  # noqa: S310
            answer.read(64)
    except HTTPError as error:
        if error.code in (401, 403):
            hint = (
                "give its user and password in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or allow the host"
            )
        raise _unreachable(tracking_uri, f"it answers with HTTP {error.code} {error.reason}", hint) from None
    except (URLError, OSError, ValueError) as error:
        raise _unreachable(tracking_uri, str(getattr(error, "reason", error)), hint) from None


def _probe_sqlite(tracking_uri: str, *, existing: bool) -> None:
    database = _sqlite_path(tracking_uri)
    if database is None:
        raise _unreachable(tracking_uri, "an SQLite store needs a file", "give sqlite:///FILE")
    if database.is_dir():
        raise _unreachable(tracking_uri, f"{database} is a folder", "name a file")
    folder = next(parent for parent in database.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise _unreachable(tracking_uri, f"{folder} cannot be written", "choose a folder of your own")
    if existing and not (database.exists() and database.stat().st_size):
        hint = "name the file in which sweeps were recorded; `paretta publish SWEEP` makes one"
        raise _unreachable(tracking_uri, f"there is none in {database}", hint)
    if not database.exists():
        return
    if not os.access(database, os.R_OK | os.W_OK):
        raise _unreachable(tracking_uri, f"{database} cannot be written", "choose a file of your own")
    try:
        with sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True, timeout=PROBE_SECONDS) as connection:
            tables = {name for (name,) in connection.execute("select name from sqlite_master where type='table'")}
    except sqlite3.DatabaseError as error:
        raise _unreachable(tracking_uri, f"{database}: {error}", "name another file") from None
    if tables and "experiments" not in tables:
        raise _unreachable(tracking_uri, f"{database} is not an MLflow database", "name another file")


def _probe_database(tracking_uri: str) -> None:
    from sqlalchemy import create_engine  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    hint = "check host, port, user, password and database name, and that the server runs"
    parts = urlsplit(tracking_uri)
    try:
        if parts.hostname:
            port = parts.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}[_scheme(tracking_uri)]
            socket.create_connection((parts.hostname, port), timeout=PROBE_SECONDS).close()
        create_engine(tracking_uri, pool_pre_ping=False).connect().close()
    except ModuleNotFoundError as error:
        raise _unreachable(tracking_uri, f"its driver is missing: {error}", "pip install 'psycopg[binary]'") from None
    except (OSError, ValueError, SQLAlchemyError) as error:
        raise _unreachable(tracking_uri, first_line(error), hint) from None


def _unreachable(tracking_uri: str, found: str, hint: str) -> WrongInput:
    rule = f"the store cannot be reached: {without_password(found)}"
    return WrongInput(Problem("--tracking-uri", rule, without_password(tracking_uri), hint))


def without_login(uri: str) -> str:
    """Return the URI without its user name and password, if it has any.

    >>> without_login("https://ann:secret@mlflow.example:5000/?a=b")
    'https://mlflow.example:5000/?a=b'
    """
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def without_password(tracking_uri: str) -> str:
    """Return the URI, or a text that contains it, with passwords masked, even if they break the syntax of a URI.

    >>> without_password("postgresql+psycopg://ann:sec/r@t@db:5432/mlflow?password=secret&sslmode=require")
    'postgresql+psycopg://ann:***@db:5432/mlflow?password=***&sslmode=require'
    """
    hidden = re.sub(r"(://[^\s:/?#@]*:)\S*@", r"\1***@", tracking_uri)
    return re.sub(r"([?&]\w*(?:password|passwd|token|secret)\w*=)[^\s&]*", r"\1***", hidden, flags=re.IGNORECASE)


def _scheme(tracking_uri: str) -> str:
    return urlsplit(tracking_uri).scheme.partition("+")[0]


def _sqlite_path(tracking_uri: str) -> Path | None:
    prefix, _, path = tracking_uri.partition(":///")
    if prefix.partition("+")[0] != "sqlite" or path in ("", ":memory:"):
        return None
    return Path(unquote(path.partition("?")[0]))
