"""Live pages: the report of every sweep in a home folder, served from the journals without MLflow."""

import hmac
import html
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from paretta.dashboards.journal.activity import asked, now_document, num_ended, seconds_left
from paretta.dashboards.journal.home_names import JOURNAL_FILE, is_archived, sweep_folders
from paretta.dashboards.journal.liveness import has_died, state_words
from paretta.dashboards.report.html_report import STATIC, live_page, report_data
from paretta.dashboards.server.server_process import is_loopback, served_in_thread
from paretta.dashboards.tracking.journal_tail import Tail
from paretta.dashboards.tracking.sync_status import read_sync_status
from paretta.dashboards.tracking.views import view_link
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import ParettaError, first_line
from paretta.search_spaces.results.front import Front

REQUEST_S: Final = 20.0  # how long a connection may stay idle, so that an incomplete request is dropped
UNREADABLE: Final = (ParettaError, OSError, RecursionError)  # raised for a damaged record
_log = logging.getLogger("paretta")
_COOKIE: Final = "paretta_token"
_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


class LiveSweep:
    """The page data of one sweep, updated from its journal; computed by one thread at a time.

    Every method raises one of `UNREADABLE` if the record cannot be read.
    """

    def __init__(self, folder: Path, at: str | None) -> None:
        """Remember the folder; the journal is read by the first request."""
        self._folder, self._at = folder, at
        self._tail, self._lock, self._inode = Tail.of(folder), threading.Lock(), 0
        self._data: dict[str, Json] = {}

    def line(self) -> tuple[str, ...]:
        """Return its row in the list of sweeps: state, trials that ended, the knee, time left, start (UTC)."""
        with self._lock:
            self._update()
            record = self._tail.record
            failed, wanted = record.count("failed"), asked(record)
            ended = f"{num_ended(record)} of {wanted or 'any number'}{f', {failed} failed' if failed else ''}"
            left = seconds_left(record, wanted) if wanted and record.frozen is None else None
            began = time.strftime("%Y-%m-%d %H:%M", time.gmtime(record.started)) if record.started else "not yet"
            status, reason = state_words(record)
            state = f"{status}, {reason}" if status == "died" else status
            state = f"archived, {state}" if is_archived(self._folder) else state
            shown = f"{_duration(left)} left" if left and status == "running" else ""
            return state, ended, _best(record.front()), shown, began

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self._folder.name

    def links(self, pages: Mapping[str, str]) -> dict[str, str]:
        """Return links to further pages; MLflow's opens on the front of this sweep if it is recorded there."""
        at = read_sync_status(self._folder)
        if "MLflow" not in pages or not at.run_id:
            return dict(pages)
        with self._lock:
            self._update()
            front = view_link(self._tail.record, at.experiment_id, "front", pages["MLflow"].rstrip("/"))
        return {**pages, "MLflow": front}

    def note(self) -> str:
        """Return what the user has noted of the sweep, on one line."""
        with self._lock:
            self._update()
            return str(self._tail.record.annotation())

    def _update(self) -> None:
        found = (self._folder / JOURNAL_FILE).stat()
        if found.st_ino != self._inode or found.st_size < self._tail.position:  # another sweep has taken the name
            self._inode, self._tail, self._data = found.st_ino, Tail.of(self._folder), {}
        if self._tail.read() or (has_died(self._tail.record) and self._tail.record.interrupt()):
            self._data = {}

    def data(self) -> dict[str, Json]:
        """Return the current `report_data` of the sweep, with ``now`` (see `now_document`) and ``version``.

        ``version`` is the number of journal bytes included, marked if the driver has died. ``now`` changes without it.
        """
        with self._lock:
            self._update()
            if not self._data:
                self._data = report_data(self._tail.record, at=self._at)
            now = now_document(self._tail.record, str(read_sync_status(self._folder)))
            status, reason = state_words(self._tail.record)
            version = f"{self._tail.position}-died" if status == "died" else self._tail.position
            return {**self._data, "status": status, "reason": reason, "version": version, "now": now}


def _best(front: Front) -> str:
    """Return the readings of the knee; empty if nothing is on the front yet."""
    if not len(front):
        return ""
    knee = front.knee()
    return ", ".join(knee.readings[objective.meter].with_time for objective in front.objectives)


def _duration(seconds: float) -> str:
    """Say how long something takes, in its largest whole unit.

    >>> _duration(29), _duration(1500), _duration(9000)
    ('1 min', '25 min', '2.5 h')
    """
    return f"{max(round(seconds / 60), 1)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class LivePages:
    """All sweeps of a home folder by name; new ones are found as they start."""

    def __init__(self, home: Path, at: str | None, links: dict[str, str]) -> None:
        """Remember the arguments; no journal is read yet.

        Args:
            home: the folder of the sweeps.
            at: see `report_data`.
            links: URLs of further pages by name.
        """
        self._home, self._at, self.links = home, at, links
        self._sweeps: dict[str, LiveSweep] = {}
        self._lock = threading.Lock()

    def sweep(self, name: str) -> LiveSweep | None:
        """Return the sweep called `name`, or None if there is none."""
        with self._lock:
            if name not in self._sweeps and name in self.names():
                self._sweeps[name] = LiveSweep(self._home / name, self._at)
            return self._sweeps.get(name)

    def names(self) -> list[str]:
        """List the sweeps, archived ones too, the most recently updated one first."""
        found = []
        for folder in sweep_folders(self._home):
            with suppress(OSError):  # it was removed a moment ago
                found.append(((folder / JOURNAL_FILE).stat().st_mtime, folder.name))
        return [name for _, name in sorted(found, reverse=True)]

    def index(self, *, archived: bool = False) -> str:
        """Return the page that lists the sweeps, without the archived ones unless `archived`."""
        names = self.names()
        hidden = [] if archived else [name for name in names if is_archived(self._home / name)]
        shown = [name for name in names if name not in hidden]
        rows = "".join(map(self._row, shown)) or '<tr><td colspan="6">No sweep was started here yet.</td></tr>'
        more = {f"{len(hidden)} archived": "/?archived=1"} if hidden else {}
        pages = {**self.links, **more}
        links = "".join(f'<a href="{html.escape(url)}">{html.escape(text)}</a>' for text, url in pages.items())
        style = (STATIC / "report.css").read_text(encoding="utf-8")
        return (STATIC / "sweeps.html").read_text(encoding="utf-8").format(style=style, rows=rows, links=links)

    def _row(self, name: str) -> str:
        sweep = self.sweep(name)
        if sweep is None:  # it was removed a moment ago
            return ""
        link = f'<a href="/{quote(name, safe="")}/">{html.escape(name)}</a>'
        try:
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in sweep.line())
            note = html.escape(sweep.note())
        except UNREADABLE as error:
            cells, note = f'<td>damaged</td><td colspan="4">{html.escape(first_line(error))}</td>', ""
        noted = f'<small class="noted" title="{note}">{note}</small>' if note else ""
        return f"<tr><td>{link}{noted}</td>{cells}</tr>"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = REQUEST_S
    server: "_Server"

    def do_GET(self) -> None:
        """Respond with a page or its data."""
        try:
            url = urlsplit(self.path)
        except ValueError:
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", b"invalid address\n")
            return
        if not self._is_allowed(url.query):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"the token is missing, or the host is not this machine\n")
            return
        name, _, rest = url.path.strip("/").partition("/")
        name = unquote(name)
        sweep = self.server.pages.sweep(name) if name else None
        if not name:
            self._send(HTTPStatus.OK, "text/html", self._index(url.query))
        elif sweep is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no such sweep\n")
        else:
            try:
                self._send_sweep(sweep, url, rest)
            except UNREADABLE as error:
                self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", f"{first_line(error)}\n".encode())

    def _index(self, query: str) -> bytes:
        return self.server.pages.index(archived="archived" in parse_qs(query)).encode(errors="replace")

    def _send_sweep(self, sweep: LiveSweep, url: SplitResult, rest: str) -> None:
        if rest == "data.json":
            data = sweep.data()
            known = parse_qs(url.query).get("version", [""])[0]
            shown = {"now": data["now"], "version": data["version"]} if known == str(data["version"]) else data
            self._send(HTTPStatus.OK, "application/json", json.dumps(shown, allow_nan=False).encode())
        elif not rest and url.path.endswith("/"):
            page = live_page(sweep.data(), {"all sweeps": "/", **sweep.links(self.server.pages.links)})
            self._send(HTTPStatus.OK, "text/html", page.encode())
        elif not rest:
            at = f"/{quote(sweep.name, safe='')}/{f'?{url.query}' if url.query else ''}"
            self._send(HTTPStatus.MOVED_PERMANENTLY, "text/plain", b"it ends with a slash\n", {"Location": at})
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n")

    def _is_allowed(self, query: str) -> bool:
        token = self.server.token
        if not token:
            # DNS rebinding: a foreign page may resolve its own name to this machine, and could read the response
            return is_loopback(_host_of(self.headers.get("Host", "")))
        cookie = _cookies(self.headers.get("Cookie", "")).get(_COOKIE)
        given = parse_qs(query).get("token", [cookie.value if cookie else ""])[0]
        return hmac.compare_digest(given.encode(), token.encode())

    def _send(
        self, status: HTTPStatus, kind: str, content: bytes, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for header, value in {**_HEADERS, **headers}.items():
            self.send_header(header, value)
        if self.server.token and status == HTTPStatus.OK:
            self.send_header("Set-Cookie", f"{_COOKIE}={self.server.token}; HttpOnly; SameSite=Strict; Path=/")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Disable request logging, so that the terminal shows the links only."""


def _host_of(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _cookies(header: str) -> SimpleCookie:
    try:
        return SimpleCookie(header)
    except CookieError:
        return SimpleCookie()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, pages: LivePages, token: str) -> None:
        self.pages, self.token = pages, token
        super().__init__((host, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log a dropped connection in one line; any other error is a bug and is shown with its traceback."""
        error = sys.exception()
        if isinstance(error, OSError):  # requests handle all other I/O errors, so this comes from the connection
            _log.warning("board: a connection was dropped: %s", first_line(error))
        else:
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed has no name for it


@contextmanager
def open_live(
    home: Path, *, host: str, port: int, token: str = "", at: str | None = None, links: dict[str, str] | None = None
) -> Iterator[str]:
    """Serve the live pages while the context is open; yield their URL.

    Args:
        home: the folder of the sweeps.
        host: address to listen on.
        port: port to listen on; 0 picks a free one.
        token: required in the address, or as the cookie that the first response sets; empty for none.
        at: see `report_data`.
        links: URLs of further pages by name.
    """
    server = _Server(host, port, LivePages(home, at, {} if links is None else links), token)
    with served_in_thread(server, host, "paretta-live") as url:
        yield url
