"""A candidate carries its limits to the lane, and its training's state lasts as long as its training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from orchestrator.candidate import Workshop, carry_out, checkpoint_of, new_trial
from orchestrator.files import SweepFiles
from orchestrator.gauge import Gauge
from orchestrator.lane import Job, LaneClient
from orchestrator.mailbox import Ending, Outcome, Update
from orchestrator.order import Order, TaskReference
from search_spaces.plan import Plan
from search_spaces.trial import Trial


@dataclass
class Lanes:
    """Answers every job with the same ending."""

    status: Ending
    jobs: list[Job] = field(default_factory=list)

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def wait(self, uid: str, *, seen: int, timeout_s: float) -> Update:
        return Update((), Outcome(uid, self.status, reason="on purpose"))

    def forget(self, uid: str) -> None:
        pass


@pytest.mark.parametrize(("status", "becomes", "kept"), [("failed", "failed", False), ("returned", "running", True)])
def test_a_candidates_limits_and_state(tmp_path: Path, status: Ending, becomes: str, kept: bool) -> None:
    lanes = Lanes(status)
    task = TaskReference.of("digits", {}, tmp_path)
    workshop = Workshop(
        cast(LaneClient, lanes),
        cast(Gauge, None),
        task,
        SweepFiles(tmp_path),
        "baseline",
        3,
        attempts=5,
        time_limit_s=60.0,
    )
    trial = new_trial(1, Plan(), seed=3, knobs={})
    state = tmp_path / checkpoint_of(trial.uid)
    state.mkdir(parents=True)
    (last,) = carry_out(trial, workshop)
    assert isinstance(last, Trial)
    assert last.status == becomes
    (job,) = lanes.jobs
    assert (job.uid, job.max_attempts, job.limit_s) == (trial.uid, 5, 60.0)
    assert cast(Order, job.payload["order"]).checkpoint == checkpoint_of(trial.uid)
    assert state.exists() == kept
