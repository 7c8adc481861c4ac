"""A small model server on loopback, for machines without MLflow: JSON in, JSON out."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, TypeAlias

from paretta.dashboards.server.server_process import LOOPBACK, free_port, require_loopback, served_in_thread
from paretta.search_spaces.canonical import Json

Answer: TypeAlias = Callable[[object], Json]
IDLE_S: Final = 60.0  # after which a connection that sends nothing is closed
LARGEST_BYTES: Final = 2**28


@contextmanager
def open_json_server(answer: Answer, *, host: str = LOOPBACK, port: int) -> Iterator[str]:
    """Answer POST ``/invocations`` and GET ``/ping`` while the context is open; yield the server's URL.

    Args:
        answer: gets the parsed body of a request and returns the answer; raises `ValueError` for a wrong request.
        host: a loopback address.
        port: port to listen on; 0 picks a free one.

    Raises:
        WrongInput: the port is taken, or the host is not a loopback address.
    """
    require_loopback(host)
    with served_in_thread(_Server((host, free_port(host, port)), answer), host, "paretta-serve") as url:
        yield url


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, at: tuple[str, int], answer: Answer) -> None:
        self.answer = answer
        super().__init__(at, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server: _Server

    def do_GET(self) -> None:
        """Say that the server is up."""
        if self.path in ("/ping", "/health"):
            self._send(HTTPStatus.OK, None)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "POST a request to /invocations, or GET /ping")

    def do_POST(self) -> None:
        """Answer a request."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BYTES:
            self.close_connection = True
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"send a length of at most {LARGEST_BYTES} bytes")
            return
        body = self.rfile.read(int(length))
        if self.path != "/invocations":
            self._refuse(HTTPStatus.NOT_FOUND, "POST a request to /invocations, or GET /ping")
            return
        try:
            answered = self.server.answer(json.loads(body))
        except (ValueError, RecursionError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error) or "the request cannot be read")
        else:
            self._send(HTTPStatus.OK, answered)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._send(status, {"error_code": status.name, "message": message})

    def _send(self, status: HTTPStatus, document: Json) -> None:
        content = b"\n" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Disable request logging, so that the terminal shows the address only."""
