"""Run Ray Train's trainer for one lane, restart it when it fails, and report why it cannot run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray
from ray import PlacementGroupID, cloudpickle
from ray.actor import ActorHandle
from ray.util.placement_group import PlacementGroup, remove_placement_group

from paretta.orchestrator.cluster.ray_calls import DEATHS, answer
from paretta.orchestrator.cluster.ray_private import without_helpers
from paretta.orchestrator.lanes.queue_actor import QueueActor
from paretta.orchestrator.lanes.stream_shards import NAME
from paretta.orchestrator.lanes.worker import serve_jobs
from paretta.search_spaces.errors import out_of_memory

if TYPE_CHECKING:
    from ray.train import UserCallback
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

RESTARTS_IN_A_ROW = 3  # consecutive failures of a worker group that served no job in between


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """The settings of a worker group; `handler` and `dataset` are pickled."""

    handler: bytes
    storage: str
    workers: int
    resources: dict[str, float]
    start_timeout_s: float
    dataset: bytes


class TrainerActor:
    """Runs one lane's trainer in its own process, so that the driver needs no torch and keeps its signal handlers."""

    def run(self, lane: int, queue: ActorHandle[QueueActor], group: GroupSettings) -> None:
        """Keep the worker group running until it is told to leave, or fails repeatedly without serving a job."""
        self.lane, self.queue, self.group = lane, queue, group
        from ray.train import TrainingFailedError  # noqa: PLC0415

        trainer, lost = self._trainer, 0
        while True:
            served: int = answer(self.queue.served.remote(self.lane))
            self._release()
            try:
                trainer().fit()
                reason = "it was told to leave"
            except (TrainingFailedError, *DEATHS) as error:
                lost += isinstance(error, DEATHS)  # Ray Train's controller itself died
                if answer(self.queue.served.remote(self.lane)) > served:
                    lost = 0
                    continue
                if 0 < lost <= RESTARTS_IN_A_ROW:
                    continue
                reason = self._why(error)
            answer(self.queue.lane_ended.remote(self.lane, reason))
            return

    def _release(self) -> None:
        """Release the resources that the worker group of a killed controller still holds.

        Ray Train leaves this to an actor that asks the dashboard whether the controller is alive, but a private cluster
        has no dashboard.
        """
        held: str = answer(self.queue.reservation.remote(self.lane))
        if held:
            remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(held)))

    def _trainer(self) -> "DataParallelTrainer":
        from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig  # noqa: PLC0415
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer  # noqa: PLC0415

        from paretta.orchestrator.lanes.process_group import TorchWorkers  # noqa: PLC0415

        resources, dataset = self.group.resources, cloudpickle.loads(self.group.dataset)
        trainer = DataParallelTrainer(
            serve_jobs,
            backend_config=TorchWorkers(),
            datasets=None if dataset is None else {NAME: dataset},
            train_loop_config={"lane": self.lane, "queue": self.queue, "handler": self.group.handler},
            scaling_config=ScalingConfig(
                num_workers=self.group.workers, use_gpu=resources.get("GPU", 0.0) > 0, resources_per_worker=resources
            ),
            run_config=RunConfig(
                name=f"lane-{self.lane}",
                storage_path=self.group.storage,
                failure_config=FailureConfig(
                    max_failures=RESTARTS_IN_A_ROW,
                    controller_failure_limit=1,  # type: ignore[call-arg]  # typed as the former version's class
                ),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
                callbacks=[oom_reporter(self.lane, self.queue)],  # type: ignore[list-item]  # likewise
            ),
        )
        return without_helpers(trainer)

    def _why(self, error: Exception) -> str:
        """Describe Ray Train's failure in one line; for a group that could not start, name the missing resources."""
        cause = getattr(error, "controller_failure", None)
        if cause is None:
            failures: Mapping[int, Exception] = getattr(error, "worker_failures", {})
            told = "; ".join(f"rank {rank}: {_last_line(failure)}" for rank, failure in failures.items())
            return f"its workers failed repeatedly ({told or _last_line(error)})"
        first, _, _ = str(cause).partition(". ")
        free: Mapping[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        total: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        have = ", ".join(f"{free.get(name, 0.0):g} of {total.get(name, 0.0):g} {name}" for name in self.group.resources)
        each = " + ".join(f"{amount:g} {name}" for name, amount in self.group.resources.items())
        return (
            f"its worker group did not start within {self.group.start_timeout_s:g} s; "
            f"it needs {self.group.workers} x {each}, free are {have} ({first})"
        )


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def oom_reporter(lane: int, queue: ActorHandle[QueueActor]) -> "UserCallback":
    """Return a Ray Train callback that tells the job queue why a worker died, before its successor registers."""
    from ray.train import UserCallback  # noqa: PLC0415 - only this process trains

    class OomReporter(UserCallback):
        def after_exception(self, run_context: object, worker_exceptions: Mapping[int, Exception]) -> None:
            causes = [getattr(error, "health_check_failure", error) for error in worker_exceptions.values()]
            if any(map(out_of_memory, causes)):
                answer(queue.blame_memory.remote(lane))

    return OomReporter()
