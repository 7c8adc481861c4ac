"""One rank of a lane: takes jobs from the job queue, runs the handler on them and follows directives."""

import platform
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ray import cloudpickle
from ray.actor import ActorHandle
from ray.util.placement_group import get_current_placement_group

from paretta.orchestrator.cluster.oom import oom_kills
from paretta.orchestrator.cluster.ray_calls import answer, sealed
from paretta.orchestrator.lanes.messages import Assignment, Directive, ProgressMessage, RankAddress, RankReport
from paretta.orchestrator.lanes.queue_actor import QueueActor
from paretta.search_spaces.errors import ParettaError, TrialFailed, WrongInput, out_of_memory

Payload: TypeAlias = Mapping[str, object]

HEARTBEAT_S = 1.0  # seconds between two heartbeats of a rank
TAKE_S = 10.0  # seconds of one wait for the next job


class JobStopped(ParettaError):
    """The job was cancelled. Raised by `RankContext.progress` on every rank at the same message; do not catch it."""


class JobReturned(ParettaError):
    """The job was not run to its end, because the lanes wind down, close or are lost."""


class GroupBroken(ParettaError):
    """The ranks of a worker group are out of step, so the group is restarted."""


@dataclass(frozen=True, slots=True)
class RankContext:
    """The rank that a handler runs on.

    Args:
        rank: of this process, from 0.
        world_size: number of ranks; a process group over them exists when there is more than one.
        local_rank: rank on this machine.
        device: ``cpu`` or ``cuda:0``; the handler must select it itself, since CUDA's current device is per thread.
        attempt: from 1; above 1 the job was delivered again after a worker died.
        progress: call it on every rank at the same points; rank 0's values reach whoever submitted the job.
    """

    rank: int
    world_size: int
    local_rank: int
    device: str
    attempt: int
    progress: Callable[[ProgressMessage], None]


Handler: TypeAlias = Callable[[Payload, RankContext], object]


def serve_jobs(config: Mapping[str, object]) -> None:
    """Serve as one rank of a lane until told to leave; this is the training function of the lane's trainer."""
    from ray.train import get_context  # noqa: PLC0415 - only workers need Ray Train
    from ray.train.collective import broadcast_from_rank_zero  # noqa: PLC0415
    from ray.train.torch import get_device  # noqa: PLC0415

    from paretta.orchestrator.lanes.process_group import join_group  # noqa: PLC0415

    join_group()
    handler, queue, lane = config["handler"], config["queue"], config["lane"]
    assert isinstance(handler, bytes)
    assert isinstance(queue, ActorHandle)
    assert isinstance(lane, int)
    context, incarnation = get_context(), broadcast_from_rank_zero(uuid.uuid4().hex)

    def rank(attempt: int, progress: Callable[[ProgressMessage], None]) -> RankContext:
        device = str(get_device())
        size, local_rank = context.get_world_size(), context.get_local_rank()
        return RankContext(context.get_world_rank(), size, local_rank, device, attempt, progress)

    address, held = RankAddress(lane, incarnation, context.get_world_rank()), get_current_placement_group()
    reservation = held.id.hex() if held else ""
    node, size = platform.node(), context.get_world_size()
    answer(queue.register.remote(address, size, node, reservation, oom_kills()))
    _Rank(queue, address, rank).serve(cloudpickle.loads(handler))


class _Rank:
    """One process of a worker group: one thread runs the jobs, the main thread follows directives."""

    def __init__(
        self,
        queue: ActorHandle[QueueActor],
        address: RankAddress,
        rank: Callable[[int, Callable[[ProgressMessage], None]], RankContext],
    ) -> None:
        self.queue, self.address, self.rank = queue, address, rank

    def serve(self, handler: Handler) -> None:
        """Serve until the directive to leave; raises `GroupBroken` on the directive to restart.

        A handler thread that is stuck ends with the process, which Ray Train ends when this method returns.
        """
        worker = threading.Thread(target=self._work, args=(handler,), daemon=True, name="paretta-handler")
        worker.start()
        directive: Directive = "stay"
        while directive == "stay":
            directive = answer(self.queue.heartbeat.remote(self.address, HEARTBEAT_S), HEARTBEAT_S)
            if not worker.is_alive():
                raise GroupBroken(f"the handler's thread of rank {self.address.rank} ended")
        if directive == "restart":
            raise GroupBroken("the ranks ended their job differently")

    def _work(self, handler: Handler) -> None:
        number = 0
        while True:
            assignment: Assignment | None = answer(self.queue.take.remote(self.address, number, TAKE_S), TAKE_S)
            if assignment is not None:
                report = self._run(handler, assignment, number)
                answer(self.queue.report.remote(self.address, number, report))
                number += 1

    def _run(self, handler: Handler, assignment: Assignment, number: int) -> RankReport:
        try:
            rank = self.rank(assignment.attempt, self._progress_of(number))
            value = handler(cloudpickle.loads(assignment.job.payload), rank)
            return RankReport(result=sealed(value) if self.address.rank == 0 else None)
        except JobStopped as stop:
            return RankReport(error_type="JobStopped", reason=str(stop), stopped=True)
        except Exception as error:  # noqa: BLE001 - the lane outlives whatever a job raises; the job fails with it
            return _report_of(error)

    def _progress_of(self, number: int) -> Callable[[ProgressMessage], None]:
        sent = 0

        def progress(values: ProgressMessage) -> None:
            nonlocal sent
            index, sent = sent, sent + 1
            if answer(self.queue.progress.remote(self.address, number, index, dict(values))):
                raise JobStopped("stopped on request")

        return progress


def _report_of(error: Exception) -> RankReport:
    if isinstance(error, WrongInput):
        error = TrialFailed.of(error)
    if isinstance(error, TrialFailed):
        detail = error.detail or traceback.format_exc()
        return RankReport(error_type="TrialFailed", reason=error.reason, detail=detail, by_input=error.by_input)
    reason = f"{type(error).__name__}: {str(error).strip() or 'without a message'}".splitlines()[0]
    reason = out_of_memory(error) or reason
    return RankReport(error_type=type(error).__name__, reason=reason, detail=traceback.format_exc())
