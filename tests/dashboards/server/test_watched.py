"""A server ends with the process that started it, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STARTER = """
import sys, time
from pathlib import Path
from paretta.dashboards.server.server_process import LOOPBACK, address, free_port, serving
port = free_port(LOOPBACK, 0)
inner = "import subprocess, sys; "
inner += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
inner += "import http.server, os; open('pids', 'w').write(f'{os.getpid()} {child.pid}'); "
inner += f"http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind='{LOOPBACK}')"
here = Path.cwd()
with serving([sys.executable, "-c", inner], address(LOOPBACK, port), log=here / "log", cwd=here, environment={}):
    print("serves", flush=True)
    if sys.argv[1] == "waits":
        time.sleep(600)
print("ended", flush=True)
"""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", ["leaves", "waits"])
def test_server_and_its_children_end_with_their_starter(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", STARTER, how]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "serves\n"
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        if how == "waits":
            os.kill(starter.pid, signal.SIGKILL)
        else:
            assert starter.stdout.readline() == "ended\n"
    until = time.monotonic() + 30
    while any(map(_alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_alive, pids))
