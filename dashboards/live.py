"""The report's page of every sweep of a home, served from the journals while they grow; MLflow is not asked."""

import hmac
import html
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from dashboards.front_page import live_page, report_data
from dashboards.journal import JOURNAL_FILE, SweepRecord
from dashboards.loopback import address
from dashboards.now import now_document
from dashboards.standing import read_standing
from dashboards.tail import Tail
from search_spaces.plan import Json

_COOKIE: Final = "paretta_token"
_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


class LiveSweep:
    """A sweep's page data, kept up to date with its journal; one thread works it out at a time."""

    def __init__(self, folder: Path, at: str | None) -> None:
        """Nothing is read before the first question."""
        self._folder, self._at = folder, at
        self._tail, self._lock = Tail.of(folder), threading.Lock()
        self._data: dict[str, Json] = {}

    @property
    def record(self) -> SweepRecord:
        """The sweep as far as it was read."""
        return self._tail.record

    def data(self) -> dict[str, Json]:
        """Return `report_data` of the sweep as it is now, with ``now``, see `now_document`, and ``version``.

        ``version`` counts the bytes of the journal that are in it; what is in ``now`` goes on changing.
        """
        with self._lock:
            if self._tail.read() or not self._data:
                self._data = report_data(self._tail.record, at=self._at)
            now = now_document(self._tail.record, str(read_standing(self._folder)))
            return {**self._data, "version": self._tail.position, "now": now}


class LivePages:
    """Every sweep of a home by its name; new ones are found as they begin."""

    def __init__(self, home: Path, at: str | None, links: dict[str, str]) -> None:
        """Look at no journal yet.

        Args:
            home: the folder of the sweeps.
            at: see `report_data`.
            links: further pages by their names.
        """
        self._home, self._at, self.links = home, at, links
        self._sweeps: dict[str, LiveSweep] = {}
        self._lock = threading.Lock()

    def sweep(self, name: str) -> LiveSweep | None:
        """Return the sweep called `name`, or None where the home has none."""
        with self._lock:
            if name not in self._sweeps and name in self.names():
                self._sweeps[name] = LiveSweep(self._home / name, self._at)
            return self._sweeps.get(name)

    def names(self) -> list[str]:
        """List the sweeps, the one with the latest news first."""
        found = [(path.stat().st_mtime, path.parent.name) for path in self._home.glob(f"*/{JOURNAL_FILE}")]
        return [name for _, name in sorted(found, reverse=True)]

    def index(self) -> str:
        """Return the page that lists the sweeps."""
        rows = "".join(map(self._row, self.names())) or "<li>No sweep has begun here yet.</li>"
        links = " · ".join(f'<a href="{html.escape(url)}">{html.escape(text)}</a>' for text, url in self.links.items())
        return _INDEX.format(rows=rows, links=links)

    def _row(self, name: str) -> str:
        sweep = self.sweep(name)
        assert sweep is not None
        sweep.data()
        record = sweep.record
        counts = f"{record.count('complete')} complete, {record.count('failed')} failed"
        return f'<li><a href="/{html.escape(name)}/">{html.escape(name)}</a> {record.status}: {counts}</li>'


_INDEX: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>paretta</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root {{ color-scheme: light dark; font: 16px/1.6 system-ui, sans-serif }} body {{ max-width: 46rem; margin: 3rem auto;
padding: 0 1rem }} a {{ color: light-dark(#1559c0, #7db1ff); font-weight: 600 }} li {{ margin: .3rem 0 }}
</style></head><body><h1>Sweeps</h1><ul>{rows}</ul><p>{links}</p></body></html>"""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        """Answer a page or its data."""
        url = urlsplit(self.path)
        if not self._may_see(url.query):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"the address lacks its token\n")
            return
        name, _, rest = url.path.strip("/").partition("/")
        sweep = self.server.pages.sweep(name) if name else None
        if not name:
            self._send(HTTPStatus.OK, "text/html", self.server.pages.index().encode())
        elif sweep is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no such sweep\n")
        elif rest == "data.json":
            data = sweep.data()
            known = parse_qs(url.query).get("version", [""])[0]
            shown = {"now": data["now"], "version": data["version"]} if known == str(data["version"]) else data
            self._send(HTTPStatus.OK, "application/json", json.dumps(shown, allow_nan=False).encode())
        elif not rest and url.path.endswith("/"):
            page = live_page(sweep.data(), self.server.pages.links)
            self._send(HTTPStatus.OK, "text/html", page.encode())
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n")

    def _may_see(self, query: str) -> bool:
        wanted = self.server.token
        if not wanted:
            return True
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get(_COOKIE)
        given = parse_qs(query).get("token", [cookie.value if cookie else ""])[0]
        return hmac.compare_digest(given.encode(), wanted.encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for header, value in _HEADERS.items():
            self.send_header(header, value)
        if self.server.token and status == HTTPStatus.OK:
            self.send_header("Set-Cookie", f"{_COOKIE}={self.server.token}; HttpOnly; SameSite=Strict; Path=/")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep the terminal for the links."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, pages: LivePages, token: str) -> None:
        self.pages, self.token = pages, token
        super().__init__((host, port), _Handler)


@contextmanager
def open_live(
    home: Path, *, host: str, port: int, token: str = "", at: str | None = None, links: dict[str, str] | None = None
) -> Iterator[str]:
    """Serve the pages until the block ends, and give their URL.

    Args:
        home: the folder of the sweeps.
        host: address to listen on.
        port: 0 takes a free one.
        token: what a browser has to give, in the address or as the cookie that the first answer leaves; empty for none.
        at: see `report_data`.
        links: further pages by their names.
    """
    with _Server(host, port, LivePages(home, at, {} if links is None else links), token) as server:
        thread = threading.Thread(target=server.serve_forever, name="paretta-live", daemon=True)
        thread.start()
        try:
            yield address(host, server.server_port)
        finally:
            server.shutdown()
            thread.join()
