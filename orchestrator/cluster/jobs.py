"""Run sweeps as jobs of a remote Ray cluster: submit, follow, query and stop them."""

import asyncio
import logging
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from paretta.dashboards.tracking.store import without_password
from paretta.orchestrator.cluster.connect import QUIET, authenticated, travelling
from paretta.orchestrator.cluster.ray_private import UPLOAD_LOGGER
from paretta.orchestrator.config.sweep import Sweep
from paretta.search_spaces.errors import ParettaError, Problem, WrongInput, did_you_mean, first_line

_SWEEP: Final = "sweep"  # the key of the job's metadata that holds the sweep's name
_STOP_S: Final = "86400"  # a stopped sweep winds down; by default Ray would kill it after 3 s
_LAST_LINES: Final = 5
_ITS_FOLDER: Final = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"  # set on a node while Ray installs requirements
_CHATTY: Final = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    UPLOAD_LOGGER,
)


class NotSubmitted(ParettaError):
    """The cluster did not take the job, or has lost it."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A sweep that was submitted.

    Args:
        name: of the sweep.
        job: Ray's id of the job.
    """

    name: str
    job: str


def submit_sweep(
    sweep: str,
    *,
    address: str,
    home: str,
    name: str | None = None,
    requirements: Path | None = None,
    storage: str | None = None,
    tracking_uri: str | None = None,
    resume: bool = False,
) -> Submission:
    """Submit a sweep to a cluster, where its driver runs as a job, independent of this machine.

    The sweep file's folder is uploaded and becomes the job's working directory. Our package is uploaded too, and what
    `requirements` lists is installed.

    Args:
        sweep: a preset's name or a sweep file.
        address: of the cluster's Jobs API, such as ``http://10.0.0.5:8265``.
        home: the sweeps' home folder on the cluster, shared by all nodes.
        name: of this sweep; by default the file's name, with a number appended if a job of that name exists.
        requirements: a pip requirements file; a line that begins with ``./`` names a file in the sweep's folder.
        storage: see `paretta.orchestrator.sweeps.launcher.launch`.
        tracking_uri: of an MLflow store that the cluster reaches, without a password.
        resume: continue the sweep of this name in `home`, with the current code of the task in the file's folder.

    Raises:
        WrongInput: the sweep file is invalid, its folder shadows our package, or nothing answers at `address`.
        NotSubmitted: the cluster rejected it.
    """
    if tracking_uri and without_password(tracking_uri) != tracking_uri:
        hint = "leave it out and set it on the cluster's nodes, for example with PGPASSWORD or a ~/.pgpass file"
        rule = "every user of the cluster can read a job's command, so it must not contain a password"
        raise WrongInput(Problem("--tracking-uri", rule, without_password(tracking_uri), hint))
    read = Sweep.read(sweep)
    runtime_env = travelling(None if read.is_preset else read.folder)
    runtime_env["env_vars"] = {**QUIET, "RAY_JOB_STOP_WAIT_TIME_S": _STOP_S}
    if requirements is not None:
        runtime_env["pip"] = _lines(requirements)
    with _jobs(address) as jobs:
        chosen = name or (read.name if resume else _numbered(read.name, set(_ours(jobs))))
        command = ["python", "-m", "paretta", "launch", "--address", "auto", "--home", home]
        command += ["--tracking-uri", tracking_uri] if tracking_uri else []
        command += ["--storage", storage] if storage and not resume else []
        command += ["--resume", chosen] if resume else ["--name", chosen, Path(sweep).name]
        job = jobs.submit_job(entrypoint=shlex.join(command), runtime_env=runtime_env, metadata={_SWEEP: chosen})
    return Submission(chosen, job)


def follow_job(submission: Submission, *, address: str, tell: Callable[[str], None]) -> bool:
    """Forward the job's status messages and output until it ends; return True if it succeeded.

    Raises:
        NotSubmitted: the cluster lost the job, or could not start it.
    """
    with _jobs(address) as jobs:
        if (job := jobs.get_job_info(submission.job)).status == JobStatus.PENDING:
            tell(f"{submission.name}: {_told_of(job)}\n")
        asyncio.run(_tail(jobs, submission.job, tell))
        while not (job := jobs.get_job_info(submission.job)).status.is_terminal():
            time.sleep(0.5)  # print the last lines of output before the final status
    if job.status == JobStatus.FAILED and job.driver_exit_code is None:
        raise NotSubmitted(f"{submission.name}: {_told_of(job)}")
    return bool(job.status == JobStatus.SUCCEEDED)


def job_lines(sweep: str, *, address: str) -> list[str]:
    """Return the status of a sweep's job and the last lines it printed. Raises `WrongInput` for an unknown sweep."""
    with _jobs(address) as jobs:
        job = _job_of(sweep, jobs)
        lines = [line for line in jobs.get_job_logs(str(job.submission_id)).splitlines() if line.strip()]
    message = f" ({_told_of(job)})" if job.message else ""
    return [f"{sweep}: {job.status.lower()}{message}", *lines[-_LAST_LINES:]]


def _told_of(job: JobDetails) -> str:
    """Return Ray's message about a job; a long one is cut to its first line and its last, which states the cause."""
    lines = [line.strip() for line in (job.message or "").splitlines() if line.strip()]
    return " ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))


def submission_of(sweep: str, *, address: str) -> Submission:
    """Find the last job of a sweep. Raises `WrongInput` for an unknown one."""
    with _jobs(address) as jobs:
        return Submission(sweep, str(_job_of(sweep, jobs).submission_id))


def stop_job(sweep: str, *, address: str) -> bool:
    """Wind the job down, as one SIGTERM does; return False if it had already ended."""
    with _jobs(address) as jobs:
        return bool(jobs.stop_job(str(_job_of(sweep, jobs).submission_id)))


@contextmanager
def _jobs(address: str) -> Iterator[JobSubmissionClient]:
    if not address.startswith(("http://", "https://")):
        rule = "must be the address of the cluster's Jobs API"
        raise WrongInput(Problem("--address", rule, address, "write it like http://10.0.0.5:8265"))
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)  # silence Ray's log lines about uploaded packages
    with authenticated():
        try:
            client = JobSubmissionClient(address)
        except (ConnectionError, RuntimeError, AuthenticationError) as error:
            hint = (
                "check address and token; a head offers the Jobs API on port 8265 (`kubectl port-forward` reaches it)"
            )
            rule = f"no Jobs API answers: {first_line(error)}"
            raise WrongInput(Problem("--address", rule, address, hint)) from None
        try:
            yield client
        except RuntimeError as error:
            raise NotSubmitted(f"{address}: {str(error).strip().splitlines()[-1]}") from error


async def _tail(jobs: JobSubmissionClient, job: str, tell: Callable[[str], None]) -> None:
    async for text in jobs.tail_job_logs(job):
        tell(text)


def _ours(jobs: JobSubmissionClient) -> dict[str, JobDetails]:
    """Return the last job of each sweep."""
    known = sorted(jobs.list_jobs(), key=lambda job: job.start_time or 0)
    return {job.metadata[_SWEEP]: job for job in known if job.submission_id and job.metadata and _SWEEP in job.metadata}


def _job_of(sweep: str, jobs: JobSubmissionClient) -> JobDetails:
    ours = _ours(jobs)
    if sweep not in ours:
        raise WrongInput(Problem("sweep", did_you_mean(sweep, ours, "job's sweep")))
    return ours[sweep]


def _numbered(name: str, known: set[str]) -> str:
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(known) + 3))) if n not in known)


def _lines(requirements: Path) -> list[str]:
    try:
        lines = requirements.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise WrongInput(
            Problem("--requirements", f"the file cannot be read: {error.strerror}", str(requirements))
        ) from None
    asked = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [f"{_ITS_FOLDER}/{line[2:]}" if line.startswith("./") else line for line in asked]
