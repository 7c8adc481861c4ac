"""Two hosts with networks, addresses and disks of their own: workers of one trial on both, files through S3."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from disturbed import user_folder
from ray_nodes import Host, Nodes, free_port, ray_nodes

from paretta.dashboards.journal.record import SweepRecord
from paretta.pipelines.artifact import verify_files

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

SWEEP = """
task: {use: "./mytask.py:make"}
baseline: [{kind: train, epochs: 3, lr: 0.01, batch_size: 32}]
space:
  - {kind: prune, sparsity: {float: [0.0, 0.8]}}
  - {kind: train, epochs: 20, lr: 0.01, batch_size: 16}
objectives: [size, accuracy]
search: {sampler: random, trials: 4, seed: 1}
workers: {per_trial: 2, lanes: 1, cpus: 1, start_timeout_s: 120}
"""


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Two network namespaces with a cable between them; the second one sees an empty folder in place of `tmp_path`."""
    mark = secrets.token_hex(3)
    names, ends = [f"paretta-{mark}-{i}" for i in (0, 1)], [f"pv{mark}{i}" for i in (0, 1)]
    addresses = ["10.213.87.1", "10.213.87.2"]
    try:
        for name in names:
            made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"network namespaces are not permitted here: {made.stderr.strip()}")
        run("ip", "link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1], "netns", names[1])
        for name, end, address in zip(names, ends, addresses, strict=True):
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", end)
            run("ip", "-n", name, "link", "set", end, "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        inside = [["ip", "netns", "exec", name] for name in names]
        # `ip netns exec` gives its command mounts of its own
        hiding = ["sh", "-c", f'mount -t tmpfs none {tmp_path} && exec "$@"', "sh"]
        yield Host(addresses[0], inside[0]), Host(addresses[1], [*inside[1], *hiding])
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@dataclass(frozen=True)
class Bench:
    nodes: Nodes
    folder: Path
    environment: Mapping[str, str]

    def command(self, *arguments: str) -> Sequence[str]:
        """Return what calls paretta on the first host."""
        return [*self.nodes.nodes[0].host.enter, sys.executable, "-m", "paretta", *arguments]

    def paretta(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call it from a folder that holds no sweep."""
        (self.folder / "elsewhere").mkdir(exist_ok=True)
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder / "elsewhere",
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture
def bench(hosts: tuple[Host, Host], tmp_path: Path) -> Iterator[Bench]:
    """A head on the first host, a node on the second, and S3 that both reach by the first one's address."""
    port = free_port()
    keys = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret-of-somebody"}
    s3 = {**keys, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://{hosts[0].address}:{port}"}
    serving = [*hosts[0].enter, sys.executable, "-m", "moto.server", "-H", hosts[0].address, "-p", str(port)]
    server = subprocess.Popen(serving, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with ray_nodes() as nodes:
            for number, host in enumerate(hosts):
                scratch = nodes.home / f"t{number}"
                scratch.mkdir()
                resources = '{"latency_slot": 1}' if number == 0 else "{}"
                nodes.add(host, resources=resources, environment={**s3, "TMPDIR": str(scratch)})
            nodes.wait()
            environment = {**os.environ, **nodes.environment, **s3, "HOME": str(tmp_path)}
            assert "GLOO_SOCKET_IFNAME" not in environment
            bucket = "import boto3; boto3.client('s3').create_bucket(Bucket='bucket')"
            subprocess.run([*hosts[0].enter, sys.executable, "-c", bucket], env=environment, check=True, timeout=120)
            yield Bench(nodes, tmp_path, environment)
    finally:
        server.kill()
        server.wait()


def test_workers_of_one_trial_on_two_hosts_that_share_no_disk(bench: Bench) -> None:
    folder, nodes = bench.folder, bench.nodes.nodes
    user_folder(folder, SWEEP)
    launch = bench.command("launch", "sweep.yaml", "--address", bench.nodes.address)

    refused = subprocess.run(
        launch, cwd=folder, env=bench.environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert refused.returncode == 2, refused.stderr
    assert f"({nodes[1].host.address}) does not see it" in refused.stderr
    assert not (folder / "sweeps" / "sweep").exists()

    with (folder / "log").open("w") as log:
        command = [*launch, "--storage", "s3://bucket/sweeps"]
        driver = subprocess.Popen(command, cwd=folder, env=bench.environment, stdout=log, stderr=subprocess.STDOUT)
    both, deadline = False, time.monotonic() + 600
    while driver.poll() is None and time.monotonic() < deadline:
        both = both or all(node.workers("ray::RayTrainWorker") for node in nodes)
        time.sleep(0.2)
    assert driver.poll() == 0, (folder / "log").read_text()
    assert both
    record = SweepRecord.read(folder / "sweeps" / "sweep")
    assert (record.status, record.count("complete")) == ("done", 4)
    for trial in record.trials.values():
        assert trial.artifact is not None
        verify_files(record.folder / trial.artifact)
    seen_there = Path(f"/proc/{nodes[1].raylet()}/root{folder}")
    assert list(seen_there.iterdir()) == []

    where = "s3://bucket/sweeps/sweep"
    asked = bench.paretta("status", where)
    assert "sweep: done" in asked.stdout, asked.stderr
    assert "4 complete of 4" in asked.stdout
    shown = bench.paretta("front", where)
    assert all(trial.uid in shown.stdout for trial in record.front().members), shown.stderr
    pulled = bench.paretta("pull", where, "--to", "best")
    assert pulled.returncode == 0, pulled.stderr
    verify_files(folder / "elsewhere" / "best")
    taken = bench.paretta("launch", "--resume", where)
    assert taken.returncode == 0, taken.stderr
    assert SweepRecord.read(folder / "elsewhere" / "sweeps" / "sweep").front() == record.front()
    kept = [path for path in folder.rglob("*") if path.is_file() and b"secret-of-somebody" in path.read_bytes()]
    assert kept == []
