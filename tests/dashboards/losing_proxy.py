"""A proxy in front of an MLflow server that drops responses and can simulate an outage."""

import http.client
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from threaded_server import answered_by


@contextmanager
def losing_proxy(target: str, share: float, outage: range = range(0)) -> Iterator[tuple[str, list[str]]]:
    """Pass everything on to `target`, but drop a `share` of the answers to what changes something.

    Requests whose number is in `outage` are not passed on at all. Gives the proxy's URL and the paths of what was lost.
    """
    rng, lost, numbers = random.Random(11), list[str](), iter(range(10**9))

    class Pass(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            if next(numbers) in outage:
                return self._lose()
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            there = http.client.HTTPConnection(urlsplit(target).netloc, timeout=60)
            there.request(self.command, self.path, body, {**self.headers, "Host": urlsplit(target).netloc})
            answer = there.getresponse()
            content = answer.read()
            there.close()
            if self.command != "GET" and "search" not in self.path and rng.random() < share:
                return self._lose()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return None

        def _lose(self) -> None:
            lost.append(self.path)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815  names that http.server looks up

        def log_message(self, *_: object) -> None:
            pass

    with answered_by(Pass) as url:
        yield url, lost
