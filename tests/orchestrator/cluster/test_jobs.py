"""Submitting: problems are reported before anything is sent, passwords are not sent, the outcome is reported."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from paretta.orchestrator.cluster import jobs as submit_module
from paretta.orchestrator.cluster.jobs import Submission, follow_job, job_lines, submit_sweep
from paretta.search_spaces.errors import WrongInput

SWEEP = "task: {use: digits}\nspace: [{kind: prune, sparsity: {float: [0, 0.5]}}]\n"


def nobody() -> str:
    """An address where no server listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_a_password_in_a_jobs_command_is_refused_and_not_repeated() -> None:
    store = "postgresql://me:hunter2@store/mlflow"
    with pytest.raises(WrongInput, match="must not contain a password") as caught:
        submit_sweep("digits", address=nobody(), home="/sweeps", tracking_uri=store)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["10.0.0.5:6379", "ray://10.0.0.5:10001"])
def test_an_address_of_another_kind_is_told(address: str) -> None:
    with pytest.raises(WrongInput, match="write it like http://"):
        submit_sweep("digits", address=address, home="/sweeps")


def test_a_port_where_nobody_listens_is_told() -> None:
    with pytest.raises(WrongInput, match=r"no Jobs API answers.*port 8265"):
        submit_sweep("digits", address=nobody(), home="/sweeps")


def test_a_folder_that_hides_our_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "paretta").mkdir()
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    with pytest.raises(WrongInput, match="rename `paretta` in it"):
        submit_sweep(str(tmp_path / "sweep.yaml"), address=nobody(), home="/sweeps")


def test_unreadable_requirements_are_told(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="--requirements"):
        submit_sweep("digits", address=nobody(), home="/sweeps", requirements=tmp_path / "none.txt")


REPORT = """runtime_env setup failed: Failed to set up runtime environment.
Traceback (most recent call last):
  File "pip.py", line 252, in _install_pip_packages
Last 50 lines of stdout:
    ERROR: none.whl is not a valid wheel filename.
"""


@dataclass
class Jobs:
    """A fake Jobs API whose only job is pending, then has the status `then`; records what was submitted."""

    then: dict[str, object] = field(default_factory=dict)
    asked: int = 0
    submitted: dict[str, Any] = field(default_factory=dict)

    def get_job_info(self, job: str) -> SimpleNamespace:
        self.asked += 1
        waits = {"status": JobStatus.PENDING, "message": "It waits for its runtime environment."}
        return SimpleNamespace(driver_exit_code=None, **(self.then if self.asked > 1 else waits))

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        for line in ("one\n", "two\n") if self.then["status"] == JobStatus.SUCCEEDED else ():
            yield line

    def get_job_logs(self, job: str) -> str:
        return ""

    def list_jobs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(submission_id="job", metadata={"sweep": "mine"}, start_time=1, **self.then)]

    def submit_job(self, **submitted: object) -> str:
        self.submitted = submitted
        return "job"


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    jobs = Jobs()

    @contextmanager
    def connected(address: str) -> Iterator[Jobs]:
        yield jobs

    monkeypatch.setattr(submit_module, "_jobs", connected)
    return jobs


def test_what_a_job_waits_for_and_prints_is_passed_on(jobs: Jobs) -> None:
    jobs.then = {"status": JobStatus.SUCCEEDED, "message": "Job finished successfully."}
    told: list[str] = []
    assert follow_job(Submission("mine", "job"), address="http://x", tell=told.append)
    assert told == ["mine: It waits for its runtime environment.\n", "one\n", "two\n"]


def test_a_job_that_could_not_begin_says_why(jobs: Jobs) -> None:
    jobs.then = {"status": JobStatus.FAILED, "message": REPORT}
    why = (
        "runtime_env setup failed: Failed to set up runtime environment. ERROR: none.whl is not a valid wheel filename."
    )
    with pytest.raises(submit_module.NotSubmitted, match=f"^mine: {why}$"):
        follow_job(Submission("mine", "job"), address="http://x", tell=lambda _: None)
    assert job_lines("mine", address="http://x") == [f"mine: failed ({why})"]


def test_a_required_file_of_the_sweeps_folder_is_found_there(jobs: Jobs, tmp_path: Path) -> None:
    jobs.then = {"status": JobStatus.SUCCEEDED, "message": None}
    (tmp_path / "needs.txt").write_text("# ours\n./wheels/mine-1.whl\n\neinops==0.8.1\n")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    submit_sweep(str(tmp_path / "sweep.yaml"), address="http://x", home="/sweeps", requirements=tmp_path / "needs.txt")
    required = jobs.submitted["runtime_env"]["pip"]
    assert required == ["${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/wheels/mine-1.whl", "einops==0.8.1"]
