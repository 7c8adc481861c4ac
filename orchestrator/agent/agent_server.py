"""The agent's server: answers sweeps that have its token, and measures their models on this machine."""

import hmac
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import parse_qsl

from pydantic import ValidationError

from paretta.dashboards.server.server_process import (
    ended_by_any_signal,
    free_port,
    is_loopback,
    served_in_thread,
    wait_until_interrupted,
)
from paretta.orchestrator.agent.protocol import (
    DIGEST,
    LARGEST_DOCUMENT,
    MOST_POLL_S,
    PROTOCOL,
    PROTOCOL_HEADER,
    READING_ID,
    AgentFacts,
    ReadingRequest,
    paretta_version,
)
from paretta.orchestrator.agent.reading_queue import Crowded, ReadingQueue, end_group, last_words, start_process
from paretta.orchestrator.agent.received_files import DamagedFile, NoRoom, ReceivedFiles
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import ParettaError, first_line

LOOKING_LIMIT_S: Final = 300.0
HEADERS_S: Final = 10.0  # within which a request must be told completely, but for its content
SILENCE_S: Final = 30.0  # after which a connection that sends nothing, or takes nothing, is closed
MOST_CONNECTIONS: Final = 32
_BLOCK: Final = 2**16
_DRAINED: Final = 2**20  # bytes of a refused request that are read, so that its sender gets to read the answer


class ConnectionDropped(Exception):
    """The client went away in the middle of a request."""


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def serve_agent(
    host: str, port: int, token: str, *, most_bytes: int, say: Callable[[str], object], warn: Callable[[str], object]
) -> None:
    """Serve until interrupted.

    Args:
        host: the address to listen on. Without a tunnel or a proxy with TLS, nothing is encrypted.
        port: 0 picks a free one.
        token: what every request must have.
        most_bytes: of files that are kept at a time.
        say: called with each line to show to the user.
        warn: likewise, with warnings.

    Raises:
        WrongInput: the port cannot be used.
        ParettaError: this machine cannot measure.
    """
    with ended_by_any_signal():
        try:
            with open_agent(host, port, token, most_bytes=most_bytes, say=say) as (url, facts):
                if not is_loopback(host):
                    warn(_exposed(host, url))
                say(url)
                say(f"measures on {facts.name}, for sweeps of paretta {facts.paretta} with the token")
                wait_until_interrupted(say)
        except KeyboardInterrupt:
            say("stopped")


def _exposed(host: str, url: str) -> str:
    port = url.rpartition(":")[2]
    return (
        f"warning: {host} is not loopback: whoever reaches this port and has the token may run models here, and token "
        f"and models cross the network unencrypted; better listen on 127.0.0.1:{port} and use a proxy with TLS, or "
        f"`ssh -L {port}:127.0.0.1:{port}`"
    )


@contextmanager
def open_agent(
    host: str, port: int, token: str, *, most_bytes: int, say: Callable[[str], object]
) -> Iterator[tuple[str, AgentFacts]]:
    """Serve while the context is open; yield the URL, and what the agent is. Nothing is left of it afterwards."""
    port = free_port(host, port, option="--listen", hint=f"{host}:0 picks a free one")
    with TemporaryDirectory(prefix="paretta-agent-") as name:
        folder = Path(name)
        facts = _facts(folder, most_bytes)
        for part in ("files", "readings"):
            (folder / part).mkdir()
        files = ReceivedFiles(folder / "files", most_bytes)
        queue = ReadingQueue(files, folder / "readings", say)
        server = _server_class(host)((host, port), _Agent(token, facts, files, queue, say))
        try:
            with served_in_thread(server, host, "paretta-agent") as url:
                yield url, facts
        finally:
            queue.close()


def _facts(folder: Path, most_bytes: int) -> AgentFacts:
    """Look at this machine in a process of its own, so that the agent itself stays small."""
    found, words = folder / "facts.json", folder / "words.txt"
    with words.open("wb") as said:
        process = start_process("facts", found, said.fileno(), folder)
        try:
            code = process.wait(LOOKING_LIMIT_S)
        finally:
            end_group(process)
    if code:
        raise ParettaError(f"this machine cannot measure: {last_words(words, code)}")
    told: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return AgentFacts(protocol=PROTOCOL, paretta=paretta_version(), most_bytes=most_bytes, **told)


class _Agent:
    """What the requests share."""

    def __init__(
        self,
        token: str,
        facts: AgentFacts,
        files: ReceivedFiles,
        queue: ReadingQueue,
        say: Callable[[str], object],
    ) -> None:
        self.token, self.facts, self.files, self.queue, self.say = token, facts, files, queue, say
        self.connections = threading.BoundedSemaphore(MOST_CONNECTIONS)


def _server_class(host: str) -> "type[_Server]":
    return _Server6 if ":" in host else _Server


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, at: tuple[str, int], agent: _Agent) -> None:
        self.agent = agent
        super().__init__(at, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; a connection too many is closed."""
        if not self.agent.connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for another connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.agent.connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell in one line what went wrong; clients that go away are no fault of ours."""
        error = sys.exception()
        if isinstance(error, ConnectionDropped | OSError):
            self.agent.say(f"{client_address[0]}: the connection broke off")
        elif error is not None:
            self.agent.say(f"{client_address[0]}: {type(error).__name__}: {first_line(error)}")


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    timeout = SILENCE_S
    server: _Server
    server_version, sys_version = "paretta-agent", ""

    def setup(self) -> None:
        """Give the request a time limit until its content begins, however slowly it arrives."""
        super().setup()
        self._limit = threading.Timer(HEADERS_S, self._hang_up)
        self._limit.daemon = True
        self._limit.start()

    def parse_request(self) -> bool:
        """Parse the headers, which ends their time limit."""
        try:
            return super().parse_request()
        finally:
            self._limit.cancel()

    def finish(self) -> None:
        """End the time limit of a request that never came."""
        self._limit.cancel()
        super().finish()

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        """Say what the agent is, or how a reading stands."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Say which files are lacking."""
        self._answer(self._post)

    def do_PUT(self) -> None:
        """Take a file, or a request for a reading."""
        self._answer(self._put)

    def do_DELETE(self) -> None:
        """Withdraw a reading."""
        self._answer(self._delete)

    def _answer(self, act: Callable[[], Json]) -> None:
        self._unread = self._length() or 0
        try:
            self._require_known()
            document = act()
        except _Refused as error:
            self._send(error.status, {"message": str(error), "protocol": PROTOCOL})
            self._drain()
        else:
            self._send(HTTPStatus.OK, document)

    def _require_known(self) -> None:
        """Refuse whoever lacks the token before anything else is looked at, then those of another protocol."""
        given = self.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, f"Bearer {self.server.agent.token}".encode()):
            raise _Refused(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong")
        spoken = self.headers.get(PROTOCOL_HEADER, "")
        if spoken != str(PROTOCOL) and self.path != "/agent":
            ours = f"protocol {PROTOCOL} of paretta {self.server.agent.facts.paretta}"
            raise _Refused(
                HTTPStatus.UPGRADE_REQUIRED, f"this agent speaks {ours}, the request {spoken[:20] or 'none'}"
            )

    def _get(self) -> Json:
        if self.path == "/agent":
            return self.server.agent.facts.model_dump(mode="json")
        path, _, query = self.path.partition("?")
        asked = dict(parse_qsl(query))
        wait = asked.get("wait", "")
        wait_s = min(int(wait), MOST_POLL_S) if wait.isdecimal() and len(wait) < 4 else MOST_POLL_S
        state = self.server.agent.queue.state(self._reading_id(path), known=asked.get("known", ""), wait_s=wait_s)
        if state is None:
            raise _Refused(HTTPStatus.GONE, "this agent knows no such reading")
        return state.model_dump(mode="json")

    def _post(self) -> Json:
        if self.path != "/files":
            raise _nothing_there()
        digests = self._document()
        if not isinstance(digests, list) or not all(isinstance(d, str) and DIGEST.fullmatch(d) for d in digests):
            raise _Refused(HTTPStatus.BAD_REQUEST, "expected a list of SHA-256 digests")
        lacking: list[Json] = [*self.server.agent.files.lacking(map(str, digests))]
        return lacking

    def _put(self) -> Json:
        if self.path.startswith("/files/"):
            digest = self.path.removeprefix("/files/")
            if not DIGEST.fullmatch(digest):
                raise _Refused(HTTPStatus.BAD_REQUEST, "a file is named by its SHA-256 in small letters")
            length = self._length()
            if length is None:
                raise _Refused(HTTPStatus.LENGTH_REQUIRED, "a file needs its length")
            try:
                self.server.agent.files.receive(digest, length, self._blocks(length))
            except NoRoom as error:
                raise _Refused(HTTPStatus.INSUFFICIENT_STORAGE, str(error)) from None
            except DamagedFile as error:
                raise _Refused(HTTPStatus.BAD_REQUEST, str(error)) from None
            return None
        name = self._reading_id(self.path)
        try:
            request = ReadingRequest.model_validate(self._document())
            lacking: list[Json] = [*self.server.agent.queue.ask(name, request)]
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join(map(str, found["loc"]))
            raise _Refused(HTTPStatus.BAD_REQUEST, f"no request of ours: {place}: {found['msg']}") from None
        except Crowded as error:
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None
        return {"lacking": lacking}

    def _delete(self) -> Json:
        self.server.agent.queue.withdraw(self._reading_id(self.path))
        return None

    def _reading_id(self, path: str) -> str:
        name = path.removeprefix("/readings/")
        if name == path or not READING_ID.fullmatch(name):
            raise _nothing_there()
        return name

    def _length(self) -> int | None:
        length = self.headers.get("Content-Length", "")
        return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else None

    def _document(self) -> Json:
        length = self._length()
        if length is None or length > LARGEST_DOCUMENT:
            rule = f"a document needs its length, of at most {LARGEST_DOCUMENT} bytes"
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, rule)
        try:
            document: Json = json.loads(b"".join(self._blocks(length)))
        except (ValueError, RecursionError) as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"no JSON: {first_line(error)}") from None
        return document

    def _blocks(self, length: int) -> Iterator[bytes]:
        """Yield the content of the request block by block. Raises `ConnectionDropped` if it ends or falls silent."""
        while length:
            try:
                block = self.rfile.read1(min(length, _BLOCK))
            except OSError as error:
                raise ConnectionDropped from error
            if not block:
                raise ConnectionDropped
            length -= len(block)
            self._unread -= len(block)
            yield block

    def _drain(self) -> None:
        """Read a part of what is left of a refused request: a connection closed before that loses the answer."""
        with suppress(OSError, ConnectionDropped):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1.0)
            for _ in self._blocks(min(self._unread, _DRAINED)):
                pass

    def _send(self, status: HTTPStatus, document: Json) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header(PROTOCOL_HEADER, str(PROTOCOL))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Disable request logging, so that the terminal shows the readings only."""


def _nothing_there() -> _Refused:
    return _Refused(HTTPStatus.NOT_FOUND, "this is an agent of paretta: name it in a sweep's `measuring`")
