"""A lane: one long-lived Ray Train worker group that serves many jobs from the job queue.

Starting a worker group takes seconds, starting a job in a running one milliseconds. Each rank asks the queue for job
number n, runs the handler on it and acknowledges it. Ranks wait for work outside of any collective, so an idle lane
cannot hit a collective's time-out. In a second thread each rank asks for directives once a second; this also serves as
its heartbeat, and it can restart a group whose ranks are stuck in a collective.
"""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import ray
from ray import cloudpickle
from ray.actor import ActorHandle

from paretta.orchestrator.cluster.capacity import require_capacity
from paretta.orchestrator.cluster.ray_calls import answer, light_actor, sealed
from paretta.orchestrator.lanes.messages import JobOutcome, JobUpdate, QueuedJob, Timeouts
from paretta.orchestrator.lanes.queue_actor import QueueActor
from paretta.orchestrator.lanes.stream_shards import cpus_beside
from paretta.orchestrator.lanes.supervisor import TrainerSupervisor
from paretta.orchestrator.lanes.trainer_actor import GroupSettings
from paretta.orchestrator.lanes.worker import Handler, JobReturned, JobStopped, Payload, RankContext
from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["Handler", "Job", "JobStopped", "LaneClient", "LanePool", "Payload", "RankContext", "result_of"]

# Ray Train's settings for a long-lived group: notice a death within half a second, no process per
# group that watches for spot-instance notices (a lost worker's job is delivered again), no time-series, no chdir.
TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "3",
}


@dataclass(frozen=True, slots=True)
class Job:
    """One call of the handler on every rank of some lane.

    Args:
        uid: unique among the jobs that have not ended.
        payload: the handler's first argument; it passes through the job queue, so keep it small.
        max_attempts: how many times the job is started if its workers die.
        limit_s: wall-clock seconds that one attempt may take; None: no limit.
    """

    uid: str
    payload: Payload
    max_attempts: int = 2
    limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class LaneClient:
    """Submits jobs and follows them, from the driver, a Tune trial or any actor; can be pickled."""

    queue: ActorHandle[QueueActor]

    def submit(self, job: Job) -> None:
        """Queue `job`; it runs on the first lane that is free."""
        queued = QueuedJob(job.uid, sealed(dict(job.payload)), job.max_attempts, job.limit_s)
        answer(self.queue.submit.remote(queued))

    def wait(self, uid: str, *, seen: int = 0, timeout_s: float = 10.0) -> JobUpdate:
        """Wait up to `timeout_s` for an outcome or for more than `seen` progress messages."""
        update: JobUpdate = answer(self.queue.wait.remote(uid, seen, timeout_s), timeout_s)
        return update

    def result(self, uid: str, *, timeout_s: float) -> object:
        """Wait for the handler's return value on rank 0.

        Raises:
            TrialFailed: the job failed; the reason is the handler's error, or what happened to its workers.
            JobStopped: it was cancelled.
            JobReturned: the lanes closed, were lost, or wind down (see `wind_down`).
            TimeoutError: the job has not ended within `timeout_s`.
        """
        deadline, seen = time.monotonic() + timeout_s, 0
        while (left := deadline - time.monotonic()) > 0:
            update = self.wait(uid, seen=seen, timeout_s=min(left, 10.0))
            seen += len(update.progress)
            if update.outcome is not None:
                self.forget(uid)
                return result_of(update.outcome)
        raise TimeoutError(f"job {uid} has not ended within {timeout_s:g} s")

    def cancel(self, uid: str, *, abandon: bool = False) -> None:
        """Remove a waiting job, or stop a running one at its next progress message; see `JobQueue.cancel`."""
        answer(self.queue.cancel.remote(uid, abandon))

    def wind_down(self) -> None:
        """Let running jobs end, and return every other job."""
        answer(self.queue.wind_down.remote())

    def forget(self, uid: str) -> None:
        """Let the job queue drop an ended job, without waiting for it; calls arrive in their order."""
        self.queue.forget.remote(uid)


def result_of(outcome: JobOutcome) -> object:
    """Return an outcome's value, or raise `TrialFailed`, `JobStopped` or `JobReturned` according to its status."""
    if outcome.status == "returned":
        raise JobReturned(outcome.reason or f"job {outcome.uid} has not ended")
    if outcome.status == "stopped":
        raise JobStopped(outcome.reason)
    if outcome.status == "failed" or outcome.result is None:
        raise TrialFailed(outcome.reason, outcome.detail, outcome.by_input)
    value: object = cloudpickle.loads(outcome.result)
    return value


class LanePool:
    """Worker groups that serve one queue, for the duration of a ``with`` block.

    Args:
        handler: run on every rank, ``handler(payload, rank) -> result``; a function, or its name as
            ``package.module:function``. To fail its job it must raise the same error on all ranks.
            storage: a folder or URI for Ray Train's small state; all nodes must see it.
            num_lanes: how many jobs run at the same time; with 0 they wait for `resize`.
        workers_per_lane: ranks per job.
        cpus_per_worker: reserved for each rank.
        gpus_per_worker: reserved for each rank; above 0 the process group is NCCL, else gloo.
        hung_after_s: a worker without a heartbeat for this many seconds counts as dead.
        threads_per_worker: OpenMP threads of each rank; more than the free cores slow training down.
        start_timeout_s: how long a worker group may wait for its resources.
        dataset: opens a Ray Data dataset that is split among a lane's workers; None if there is no stream.
        timeouts: limits for workers that stop answering.

    Raises:
        WrongInput: on entering, when the worker groups cannot fit the cluster.
    """

    def __init__(
        self,
        handler: Handler | str,
        *,
        storage: Path | str,
        num_lanes: int = 1,
        workers_per_lane: int = 2,
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float = 0.0,
        threads_per_worker: int = 1,
        start_timeout_s: float = 60.0,
        hung_after_s: float = 60.0,
        dataset: "Callable[[], Dataset] | None" = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.num_lanes = num_lanes
        self.timeouts = timeouts or Timeouts(hung_s=hung_after_s, silence_s=3 * start_timeout_s + 60.0)
        resources = {"CPU": cpus_per_worker, "GPU": gpus_per_worker}
        self.group = GroupSettings(
            handler=sealed(_resolve(handler) if isinstance(handler, str) else handler),
            storage=storage if isinstance(storage, str) else str(storage.resolve()),
            workers=workers_per_lane,
            resources={name: amount for name, amount in resources.items() if amount > 0},
            start_timeout_s=start_timeout_s,
            dataset=sealed(dataset),
        )
        self.environment = {
            **TRAIN_ENVIRONMENT,
            "OMP_NUM_THREADS": str(threads_per_worker),
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(start_timeout_s),
            "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(hung_after_s),
        }
        self.beside = cpus_beside(streams=dataset is not None)
        self.trainers: TrainerSupervisor | None = None

    def __enter__(self) -> Self:
        """Check the resources and start the worker groups; jobs may be submitted immediately."""
        require_capacity(max(self.num_lanes, 1), self.group.workers, self.group.resources, beside=self.beside)
        self.queue = light_actor(QueueActor, {}, self.num_lanes, self.timeouts)
        self.client, self.trainers = LaneClient(self.queue), TrainerSupervisor(self.queue, self.group, self.environment)
        if self.num_lanes == 0:
            self.resize(0)
        for lane in range(self.num_lanes):
            self.trainers.begin(lane)
        return self

    def alive(self) -> int:
        """Count the lanes that hold resources or are about to, including those that are leaving."""
        count: int = answer(self.queue.alive.remote())
        return count

    def ready(self) -> int:
        """Count the lanes whose workers have started."""
        count: int = answer(self.queue.ready.remote())
        return count

    def resize(self, num_lanes: int) -> None:
        """Start lanes, or let those beyond `num_lanes` leave when their job has ended; with 0 lanes, jobs wait."""
        if self.trainers is not None:
            added: list[int] = answer(self.queue.resize.remote(num_lanes))
            for lane in added:
                self.trainers.begin(lane)

    def lost(self) -> str:
        """Return why no lane is left; an empty string if any lane is alive."""
        why: str = answer(self.queue.lost.remote())
        return why

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the worker groups, including running jobs, and every actor; without waiting long after an error."""
        self.close(timeout_s=20.0 if error is None else 5.0)

    def close(self, *, timeout_s: float = 20.0) -> None:
        """Tell the ranks to leave, wait for their groups to end, and kill what is left after `timeout_s`."""
        if self.trainers is None:
            return
        try:
            answer(self.queue.close.remote(), 5.0)
            self.trainers.close(timeout_s)
        except (ray.exceptions.RayError, TimeoutError):
            self.trainers.close(0.0)  # the job queue is dead and cannot close the lanes
        finally:
            ray.kill(self.queue)
            self.trainers = None

    def submit(self, job: Job) -> None:
        """Queue `job`, see `LaneClient.submit`."""
        self.client.submit(job)

    def result(self, uid: str, *, timeout_s: float) -> object:
        """Wait for a job's value, see `LaneClient.result`."""
        return self.client.result(uid, timeout_s=timeout_s)


def _resolve(name: str) -> Handler:
    module, _, attribute = name.partition(":")
    try:
        handler: Handler = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        rule = f"`handler` must name a function as package.module:function ({error})"
        raise WrongInput(Problem("lanes.handler", rule, name)) from error
    return handler
