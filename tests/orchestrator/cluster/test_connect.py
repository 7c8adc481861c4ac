"""Connecting: our own cluster leaves nothing behind, and an unreachable address is reported within seconds."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from ray_nodes import ray_nodes

from paretta.orchestrator.cluster import connect as cluster_module
from paretta.orchestrator.cluster.connect import PACKAGE, connect
from paretta.orchestrator.cluster.private_folder import remove_stale
from paretta.search_spaces.errors import WrongInput

OWN_CLUSTER = """
import os, signal, sys, time
from pathlib import Path
import ray
from paretta.orchestrator.cluster.connect import connect

with connect(num_cpus=1) as cluster:
    @ray.remote(num_cpus=1)
    def here():
        import paretta.orchestrator.cluster.connect
        file = paretta.orchestrator.cluster.connect.__file__
        return os.environ["OMP_NUM_THREADS"], os.environ["RAY_USAGE_STATS_ENABLED"], file

    token = os.environ["RAY_AUTH_TOKEN"].encode()
    session = ray._private.worker.global_worker.node.get_session_dir_path()
    ray.get(here.remote())
    read = [*Path("/proc").glob("[0-9]*/cmdline"), *(path for path in Path(session).rglob("*") if path.is_file())]
    shown = []
    for path in read:
        try:
            shown += [str(path)] if token in path.read_bytes() else []
        except OSError:
            continue  # a process that has ended, or a socket
    assert not shown, shown
    assert len(read) > 20

    assert Path(session).parents[2] == Path(sys.argv[2])
    assert not Path(session).parents[1].stat().st_mode & 0o077
    heard = {line.split()[9]: line.split()[1] for kind in ("tcp", "tcp6")
             for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:] if line.split()[3] == "0A"}
    ours = set()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if token in environment.read_bytes():
                ours |= {os.readlink(link)[8:-1] for link in (environment.parent / "fd").iterdir()}
        except OSError:
            continue
    found = [place for socket, place in heard.items() if socket in ours]
    assert len(found) > 3
    loopback = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
    assert not [place for place in found if place.partition(":")[0] not in loopback], found
    print(*ray.get(here.remote()), cluster.own, os.environ["RAY_AUTH_MODE"], ray.cluster_resources()["CPU"])
    if sys.argv[1] == "raise":
        raise RuntimeError("on purpose")
    if sys.argv[1] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
print("RAY_AUTH_TOKEN" in os.environ, ray.is_initialized())
"""


def run_in(home: Path, temp: Path, how: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(temp), "PYTHONPATH": str(PACKAGE.parent)}
    environment.pop("RAY_AUTH_MODE", None)
    command = [sys.executable, "-c", OWN_CLUSTER, how, str(temp)]
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=120, check=False)


def processes_below(folder: Path, seconds: float = 15.0) -> list[str]:
    """Command lines that mention `folder`, after exiting processes are gone."""
    deadline = time.monotonic() + seconds
    while True:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name is short enough for Ray's sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="pa", dir="/tmp"))
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.parametrize("how", ["leave", "raise"])
def test_our_own_cluster_leaves_nothing_behind(short_folder: Path, tmp_path: Path, how: str) -> None:
    done = run_in(tmp_path, short_folder, how)
    first, *rest = done.stdout.splitlines()
    assert first == f"1 0 {PACKAGE / 'orchestrator' / 'cluster' / 'connect.py'} True token 1.0", done.stderr
    assert (done.returncode, rest) == ((0, ["False False"]) if how == "leave" else (1, []))
    assert ("RuntimeError: on purpose" in done.stderr) == (how == "raise")
    assert processes_below(short_folder) == []
    assert sorted(short_folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_no_process_outlives_a_killed_driver(short_folder: Path, tmp_path: Path) -> None:
    done = run_in(tmp_path, short_folder, "die")
    assert done.returncode == -signal.SIGKILL
    assert processes_below(short_folder, seconds=30.0) == []
    assert len(list(short_folder.iterdir())) == 1
    remove_stale(short_folder)
    assert list(short_folder.iterdir()) == []


SIGNALLED_GROUP = """
import os, signal, time
import ray
from paretta.orchestrator.cluster.connect import connect

heard = []
with connect(num_cpus=1):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: heard.append(signal.Signals(number).name))

    @ray.remote(num_cpus=0)
    class Counter:
        count = 0
        def up(self):
            self.count += 1
            return self.count

    counter = Counter.remote()
    ray.get(counter.up.remote())
    for number in (signal.SIGTERM, signal.SIGINT):
        os.killpg(0, number)
        time.sleep(1)
    print(*heard, ray.get(counter.up.remote(), timeout=30))
"""


def test_a_signal_to_the_group_of_the_driver_reaches_the_driver_alone(short_folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(short_folder), "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", SIGNALLED_GROUP]
    done = subprocess.run(
        command,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["SIGTERM", "SIGINT", "2"], done.stderr
    assert processes_below(short_folder) == []


def test_a_machine_too_busy_to_start_ray_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup. The GCS may be overloaded.")

    monkeypatch.setattr(cluster_module.ray, "init", init)
    before = os.environ.get("RAY_AUTH_TOKEN")
    with pytest.raises(WrongInput) as caught:
        connect(num_cpus=2).__enter__()
    told = str(caught.value)
    assert re.match(
        r"cluster: Ray's processes did not start within \d+ s at a load of [\d.]+ on 2 CPU\(s\) \(The cur", told
    )
    assert re.search(r"; launch again when .*`ray start --head`, then --address auto", told)
    assert os.environ.get("RAY_AUTH_TOKEN") == before


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(WrongInput, match=r"no Ray cluster answers: .*Connection refused.*ray start --head"):
        connect(address).__enter__()


def test_a_port_that_speaks_something_else_is_told_within_the_limit() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        begun = time.monotonic()
        with pytest.raises(WrongInput, match="no Ray cluster answers"):
            connect(f"127.0.0.1:{mute.getsockname()[1]}", timeout_s=6.0).__enter__()
        assert time.monotonic() - begun < 20.0  # the limit itself is what is promised


@pytest.mark.parametrize(
    ("address", "rule"), [("ray://localhost:10001", "Ray Client"), ("localhost", "host:port"), ("a:b", "host:port")]
)
def test_an_address_of_another_kind_is_told(address: str, rule: str) -> None:
    with pytest.raises(WrongInput, match=rule):
        connect(address).__enter__()


def test_a_folder_that_would_hide_our_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "paretta").mkdir()
    with pytest.raises(WrongInput, match=r"would hide ours.*rename `paretta` in it"):
        connect("10.0.0.5:6379", working_dir=tmp_path).__enter__()


JOIN = """
import os, sys
import ray
from paretta.orchestrator.cluster.connect import connect
from paretta.search_spaces.errors import WrongInput

try:
    with connect(sys.argv[1], timeout_s=60.0) as cluster:
        @ray.remote
        def here():
            import paretta.orchestrator.cluster.connect
            return paretta.orchestrator.cluster.connect.__file__

        print(cluster.own, "py_modules_files" in ray.get(here.remote()))
except WrongInput as error:
    print(error)
"""


@pytest.mark.slow
def test_a_running_cluster_is_joined_with_its_token_and_gets_our_package(tmp_path: Path) -> None:
    with ray_nodes() as cluster:
        cluster.add()
        cluster.wait()
        known = {**cluster.environment, "PYTHONPATH": str(PACKAGE.parent)}
        unknown = {name: value for name, value in known.items() if not name.startswith("RAY_AUTH")}
        command = [sys.executable, "-c", JOIN, cluster.address]

        def join(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
            run = subprocess.run  # elsewhere: a driver's own folder comes before the packages that are sent
            return run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)

        joined = join(known)
        refused = join(unknown)
    assert joined.stdout.split() == ["False", "True"]
    assert "the cluster refuses this token" in refused.stdout
