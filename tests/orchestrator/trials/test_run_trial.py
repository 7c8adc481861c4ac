"""A candidate is sent to the lane with its limits, and its checkpoint exists only while it trains."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from paretta.orchestrator.config.task_reference import TaskReference
from paretta.orchestrator.lanes.messages import JobOutcome, JobStatus, JobUpdate
from paretta.orchestrator.lanes.pool import Job, LaneClient
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.trials.events import TrialEnded, TrialReturned
from paretta.orchestrator.trials.measuring_actor import MeasuringClient
from paretta.orchestrator.trials.request import TrialRequest
from paretta.orchestrator.trials.run_trial import TrialContext, checkpoint_name, new_trial, run_trial
from paretta.search_spaces.space.plan import Plan


@dataclass
class Lanes:
    """Answers every job with the same ending."""

    status: JobStatus
    reason: str = "on purpose"
    by_input: bool = False
    jobs: list[Job] = field(default_factory=list)

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def wait(self, uid: str, *, seen: int, timeout_s: float) -> JobUpdate:
        return JobUpdate((), JobOutcome(uid, self.status, reason=self.reason, by_input=self.by_input))

    def forget(self, uid: str) -> None:
        pass


FULL = "export: [Errno 28] No space left on device: 'model.onnx'"


@pytest.mark.parametrize(
    ("status", "reason", "becomes", "kept"),
    [
        ("failed", "diverged", "failed", False),
        ("returned", "the lanes were closed", "returned", True),
        ("stopped", "by the stopper", "stopped early", False),
        ("failed", FULL, "returned", True),
    ],
)
def test_a_candidates_limits_and_state(
    tmp_path: Path, status: JobStatus, reason: str, becomes: str, kept: bool
) -> None:
    lanes = Lanes(status, reason, by_input=status == "failed")
    task = TaskReference.of("digits", {}, tmp_path)
    context = TrialContext(
        cast(LaneClient, lanes),
        cast(MeasuringClient, None),
        task,
        SweepFiles(tmp_path),
        "baseline",
        3,
        attempts=5,
        time_limit_s=60.0,
    )
    trial = new_trial(1, Plan(), seed=3, knobs={})
    state = tmp_path / checkpoint_name(trial.uid)
    state.mkdir(parents=True)
    (last,) = run_trial(trial, context)
    match last:
        case TrialEnded(ended, by_input):
            assert (ended.status, ended.reason, by_input) == (becomes, reason, becomes == "failed")
        case TrialReturned(why):
            assert (becomes, why) == ("returned", f"the disk is full: {FULL}" if reason == FULL else None)
        case _:
            pytest.fail(f"not an ending: {last}")
    (job,) = lanes.jobs
    assert (job.uid, job.max_attempts, job.limit_s) == (trial.uid, 5, 60.0)
    assert cast(TrialRequest, job.payload["request"]).checkpoint == checkpoint_name(trial.uid)
    assert state.exists() == kept
