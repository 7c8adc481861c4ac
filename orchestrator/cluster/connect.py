"""Connect to a Ray cluster: start a private one for the duration of a `with` block, or join a running one."""

import logging
import os
import secrets
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray

from paretta.orchestrator.cluster.measuring_slot import SLOT
from paretta.orchestrator.cluster.network import HOOK, INTERFACES, LOOPBACK_INTERFACE
from paretta.orchestrator.cluster.private_folder import ray_folder
from paretta.orchestrator.cluster.ray_private import has_token, in_own_sessions, on_loopback, reread_environment
from paretta.search_spaces.errors import Problem, WrongInput, first_line

PACKAGE = Path(__file__).parents[2]

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # see paretta.orchestrator.sweeps.signals
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # `TuneSearcher` bounds them; by default Tune starts one after the other
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's new output engine prints tables even with verbosity 0
    "OMP_NUM_THREADS": "1",
    # most actors of a sweep are idle, so there are more of them than cores; Ray warns at four times this number
    "RAY_worker_maximum_startup_concurrency": "16",
}

IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it when the driver runs as a job of the cluster
LEFT_AT_HOME = ["/sweeps", "/mlruns", ".git", ".venv", "__pycache__"]


@dataclass(frozen=True, slots=True)
class ConnectedCluster:
    """A connected cluster.

    Args:
        address: ``host:port`` of its global control store (GCS).
        own: True if we started it, so that it ends with the connection.
    """

    address: str
    own: bool

    def trial_resources(self) -> dict[str, float]:
        """Return what a trial actor reserves: a tiny amount of memory, which every node has, and no CPU.

        A trial actor only waits for its lane. If it reserved even a thousandth of a CPU, it could prevent a worker
        group of the lane from ever starting.
        """
        return {"memory": 32 * 2.0**20}


@contextmanager
def connect(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    dashboard: bool = False,
    working_dir: Path | None = None,
    timeout_s: float = 20.0,
    quiet: bool = True,
) -> Iterator[ConnectedCluster]:
    """Connect this process to Ray, and disconnect on exit, including after an exception.

    Args:
        address: None starts a private cluster on this machine, with a secret token and a temporary folder, both
            discarded at the end. ``host:port`` or ``auto`` joins a running one.
        num_cpus: CPUs of the private cluster; by default those this process may use.
        num_gpus: GPUs of the private cluster; by default those Ray detects.
        dashboard: start Ray's dashboard on the private cluster.
        working_dir: the user's folder; it is sent to every node of a running cluster and comes first on its import
            path.
        timeout_s: the time that a running cluster has to answer.
        quiet: keep the workers' output in Ray's log files.

    Raises:
        WrongInput: no cluster answers at `address`, the cluster refuses the token, or `working_dir` hides our package.
    """
    if ray.is_initialized():
        raise WrongInput(
            Problem("cluster", "this process is already connected to Ray", hint="call ray.shutdown() first")
        )
    check_working_dir((working_dir or Path.cwd()).resolve())
    if address is None:
        with _own(num_cpus or len(os.sched_getaffinity(0)), num_gpus, dashboard, quiet) as cluster:
            yield cluster
    else:
        with _running(address, working_dir, timeout_s, quiet) as cluster:
            yield cluster


@contextmanager
def _own(num_cpus: int, num_gpus: int | None, dashboard: bool, quiet: bool) -> Iterator[ConnectedCluster]:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "PYTHONPATH": _python_path()}
    alone = dict.fromkeys(INTERFACES, LOOPBACK_INTERFACE)
    with ray_folder() as folder, _environment({**QUIET, **token, **alone}), _session(quiet):
        with _starting(num_cpus), on_loopback(), in_own_sessions():
            ray.init(
                address="local",
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                resources={SLOT: 1.0},
                include_dashboard=dashboard,
                log_to_driver=not quiet,
                logging_level=logging.ERROR if quiet else logging.INFO,
                _temp_dir=str(folder),
            )
        yield ConnectedCluster(ray.get_runtime_context().gcs_address, own=True)


@contextmanager
def _starting(num_cpus: int) -> Iterator[None]:
    """Explain a failed start of Ray's own processes; most of Ray's time limits for them cannot be changed."""
    begun = time.monotonic()
    try:
        yield
    except Exception as error:
        waited, load = time.monotonic() - begun, os.getloadavg()[0]
        found = f"within {waited:.0f} s at a load of {load:.1f} on {num_cpus} CPU(s)"
        rule = f"Ray's processes did not start {found} ({first_line(error)})"
        hint = (
            "launch again when the machine is less busy, or start a cluster by hand, which has no time limit: "
            "`ray start --head`, then --address auto"
        )
        raise WrongInput(Problem("cluster", rule, hint=hint)) from error


@contextmanager
def _running(address: str, working_dir: Path | None, timeout_s: float, quiet: bool) -> Iterator[ConnectedCluster]:
    with _environment({**QUIET, "RAY_AUTH_MODE": _auth_mode()}), _session(quiet):
        _probe(address, timeout_s)
        ray.init(
            address=address,
            runtime_env=None if IN_A_JOB in os.environ else travelling(working_dir),
            log_to_driver=not quiet,
            logging_level=logging.ERROR if quiet else logging.INFO,
        )
        yield ConnectedCluster(ray.get_runtime_context().gcs_address, own=False)


def travelling(working_dir: Path | None) -> dict[str, object]:
    """Return the runtime environment that ships our package and the user's folder to every node.

    Raises:
        WrongInput: `working_dir` hides our package.
    """
    ours: dict[str, object] = {
        "env_vars": dict(QUIET),
        "py_modules": [str(PACKAGE)],
        "worker_process_setup_hook": HOOK,
    }
    if working_dir is None:
        return ours
    check_working_dir(working_dir)
    return {**ours, "working_dir": str(working_dir), "excludes": LEFT_AT_HOME}


@contextmanager
def authenticated() -> Iterator[None]:
    """Authenticate to Ray inside the block with this process' token, if it has one."""
    with _environment({"RAY_AUTH_MODE": _auth_mode()}):
        reread_environment()
        yield


@contextmanager
def _session(quiet: bool) -> Iterator[None]:
    """Have Ray read the token from this environment, and drop it afterwards."""
    reread_environment()
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, which the private cluster's processes inherit, and restore the old ones on exit."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        reread_environment()


def _auth_mode() -> str:
    """Enable token authentication if the environment or home folder has a token; `ray.init(address=...)` does not."""
    given = os.environ.get("RAY_AUTH_MODE")
    return given if given is not None else "token" if has_token() else "disabled"


def _python_path() -> str:
    """Put our package's folder on the workers' import path, unless the package is installed there anyway."""
    known = os.environ.get("PYTHONPATH", "")
    if str(PACKAGE.parent) == sysconfig.get_path("purelib"):
        return known
    return os.pathsep.join(filter(None, (str(PACKAGE.parent), known)))


def check_working_dir(working_dir: Path) -> None:
    """Refuse a folder that would shadow our package.

    A worker searches the driver's folder, or the one sent to it, before the installed packages.
    """
    hiding = working_dir / PACKAGE.name
    if hiding.exists() and hiding != PACKAGE:
        rule = "the folder sent to the workers comes first on their import path and would hide ours"
        hint = f"rename `{PACKAGE.name}` in it"
        raise WrongInput(Problem("cluster.working_dir", rule, str(working_dir), hint))


def _probe(address: str, timeout_s: float) -> None:
    """Check that the cluster answers, in a child process that can be killed: `ray.init` may block for minutes."""
    if address.startswith("ray://"):
        hint = "run on the cluster (`ray job submit`) and give host:6379 or auto"
        raise WrongInput(Problem("cluster.address", "Ray Client addresses cannot carry a sweep", address, hint))
    if address != "auto":
        _knock(address, timeout_s)
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise _silent(address, f"connected, but it gave no answer within {timeout_s:g} s") from None
    if answer.returncode:
        lines = [line for line in (answer.stderr or answer.stdout).splitlines() if line.strip()]
        if "AuthenticationError" in answer.stderr:
            hint = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the cluster's"
            raise WrongInput(
                Problem("cluster.address", "the cluster refuses this token, or the lack of one", address, hint)
            )
        raise _silent(address, lines[-1] if lines else f"the health check ended with {answer.returncode}")


def _knock(address: str, timeout_s: float) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise WrongInput(
            Problem("cluster.address", "must be host:port or auto", address, "write it like 10.0.0.5:6379")
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=min(timeout_s, 5.0)).close()
    except OSError as error:
        raise _silent(address, str(error)) from error


def _silent(address: str, why: str) -> WrongInput:
    hint = "start a head there (`ray start --head`), or leave the address out for a cluster of our own"
    return WrongInput(Problem("cluster.address", f"no Ray cluster answers: {why}", address, hint))
