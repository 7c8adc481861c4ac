"""Running server processes on this machine: find a free port, wait until the server is up, stop its whole group."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from paretta.search_spaces.errors import ParettaError, Problem, WrongInput

LOOPBACK: Final = "127.0.0.1"
_WATCHED: Final = Path(__file__).with_name("watched.py")
_START_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 10.0


def is_loopback(host: str) -> bool:
    """Return whether `host` is reachable from this machine only.

    >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_loopback(host: str) -> None:
    """Raise `WrongInput` unless `host` is a loopback address, because the pages have no password."""
    if not is_loopback(host):
        hint = "use 127.0.0.1 and a tunnel: ssh -L 5000:127.0.0.1:5000 HOST"
        rule = "the pages have no password, so they are served on loopback only"
        raise WrongInput(Problem("--host", rule, host, hint))


def free_port(host: str, port: int, *, option: str = "--port", hint: str = "--port 0 picks a free one") -> int:
    """Return `port`, or a free one for 0. Raises `WrongInput`, with `option` and `hint`, if it cannot be used."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
            return int(server.getsockname()[1])
    except OSError as error:
        raise WrongInput(Problem(option, f"the port cannot be used: {error.strerror}", port, hint)) from None


@contextmanager
def served_in_thread(server: ThreadingHTTPServer, host: str, thread_name: str) -> Iterator[str]:
    """Serve in a thread while the context is open, and close the server; yield its URL on `host`."""
    with server:
        thread = threading.Thread(target=server.serve_forever, name=thread_name, daemon=True)
        thread.start()
        try:
            yield address(host, server.server_port)
        finally:
            server.shutdown()
            thread.join()


def address(host: str, port: int) -> str:
    """Return the URL of a server.

    >>> address("::1", 5000)
    'http://[::1]:5000'
    """
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@contextmanager
def ended_by_any_signal() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP like Ctrl-C inside the block, so that the servers started in it are stopped.

    A signal that is ignored, as `nohup` sets SIGHUP, stays ignored.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_until_interrupted(say: Callable[[str], object]) -> None:
    """Wait for Ctrl-C, and tell the user so through `say`."""
    say("Press Ctrl-C to stop.")
    try:
        signal.pause()
    except KeyboardInterrupt:
        say("stopped")


@contextmanager
def serving(
    command: Sequence[str], health: str, *, log: Path, cwd: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """Run a server while the context is open, which is entered once the URL `health` responds.

    The server also ends if this process is killed, see `watched`.

    Raises `ParettaError` with the end of `log` if the process exits early or does not respond within three minutes.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603  our own command
            [sys.executable, "-I", str(_WATCHED), *command],
            cwd=cwd,
            stdin=subprocess.PIPE,  # closes with this process
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
            start_new_session=True,  # so that the server and its workers end together
        )
    try:
        _wait_until_it_answers(health, process, log)
        yield
    finally:
        _end(process)


def _wait_until_it_answers(health: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            with urlopen(health, timeout=5):  # noqa: S310  our own server
                return
        except (URLError, OSError):
            time.sleep(0.2)
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise ParettaError(f"the MLflow server did not start; {log} says: {' | '.join(last)}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    with process:  # closes the pipe
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, sign)
                process.wait(_STOP_SECONDS)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
