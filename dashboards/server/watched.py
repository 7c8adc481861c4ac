"""Runs a server that ends with the process that started it: ``python -I watched.py COMMAND ...``.

Standard input is a pipe that the parent keeps open. It closes when the parent ends, however it ends; then the process
group is stopped.
"""

import os
import signal
import subprocess
import sys
import threading
import time

_GRACE_S = 10.0


def run_watched(command: list[str]) -> int:
    """Run `command` and return its exit code."""
    # a handler instead of SIG_IGN, which the server would inherit; this process must outlive the group it signals
    signal.signal(signal.SIGTERM, lambda *_: None)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  what our own server_process asks for
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return server.wait()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGTERM)
    time.sleep(_GRACE_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(run_watched(sys.argv[1:]))
