"""Runs a server that ends with whoever started it: ``python -I watched.py COMMAND ...``.

Standard input is a pipe that the starter holds. When it closes, however the starter ended, the process group ends.
"""

import os
import signal
import subprocess
import sys
import threading
import time

_PATIENCE_S = 10.0


def run_watched(command: list[str]) -> int:
    """Run `command` and return its exit code."""
    # a handler, and not SIG_IGN, which the server would inherit: who ends the group waits for this process to end last
    signal.signal(signal.SIGTERM, lambda *_: None)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  what our own server_process asks for
    threading.Thread(target=_end_with_starter, daemon=True).start()
    return server.wait()


def _end_with_starter() -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGTERM)
    time.sleep(_PATIENCE_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(run_watched(sys.argv[1:]))
