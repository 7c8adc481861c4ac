"""Start the trainers of a sweep's lanes, restart those that die, and end them with the sweep."""

import threading
from collections.abc import Mapping
from typing import Final

import ray
from ray.actor import ActorHandle

from paretta.orchestrator.cluster.ray_calls import answer, light_actor
from paretta.orchestrator.lanes.queue_actor import QueueActor
from paretta.orchestrator.lanes.trainer_actor import RESTARTS_IN_A_ROW, GroupSettings, TrainerActor
from paretta.search_spaces.errors import first_line

_LOOK_S: Final = 0.5  # seconds between two checks that the trainers are alive


class TrainerSupervisor:
    """Keeps one trainer running for each lane, from a thread of the driver.

    Ray could restart the trainers itself, but when a node runs out of memory Ray kills restartable actors first. A lane
    loses its workers with its trainer, even if another lane used the memory.

    Args:
        queue: the job queue of all lanes.
        group: settings of each lane's worker group.
        environment: environment variables of the trainers' processes, which their workers inherit.
    """

    def __init__(self, queue: ActorHandle[QueueActor], group: GroupSettings, environment: Mapping[str, str]) -> None:
        self.queue, self.group, self.environment = queue, group, environment
        self.actors: dict[int, ActorHandle[TrainerActor]] = {}
        self.runs: dict[int, ray.ObjectRef[None]] = {}
        self.losses: dict[int, tuple[int, int]] = {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="paretta-trainers", daemon=True)
        self.thread.start()

    def begin(self, lane: int) -> None:
        """Start the trainer of a lane."""
        self.actors[lane] = light_actor(TrainerActor, self.environment)
        self.runs[lane] = self.actors[lane].run.remote(lane, self.queue, self.group)

    def close(self, timeout_s: float) -> None:
        """Wait for the trainers of the closed lanes to end, and kill those left after `timeout_s`."""
        self.over.set()
        self.thread.join(timeout_s)
        try:
            if self.runs:
                ray.wait(list(self.runs.values()), num_returns=len(self.runs), timeout=timeout_s)
        finally:
            for actor in self.actors.values():
                ray.kill(actor)

    def _watch(self) -> None:
        while not self.over.wait(_LOOK_S):
            try:
                for lane, run in list(self.runs.items()):
                    if why := _death(run):
                        self._mend(lane, why)
                # do not wait for the answer: on a busy machine it would delay the next check
                self.queue.trainers_alive.remote([lane for lane, run in self.runs.items() if _is_running(run)])
            except (ray.exceptions.RayError, TimeoutError):
                return  # the job queue is dead, which ends the sweep

    def _mend(self, lane: int, why: str) -> None:
        """Restart a trainer, unless it died repeatedly while its lane served no job."""
        served: int = answer(self.queue.served.remote(lane))
        lost, before = self.losses.get(lane, (0, served))
        self.losses[lane] = (lost + 1 if served == before else 1, served)
        if self.losses[lane][0] <= RESTARTS_IN_A_ROW:
            self.begin(lane)
        else:
            del self.runs[lane]
            answer(self.queue.lane_ended.remote(lane, f"its trainer died repeatedly ({why})"))


def _is_running(run: "ray.ObjectRef[None]") -> bool:
    """Return True if a trainer is starting or running; Ray monitors its process and its node."""
    _, running = ray.wait([run], timeout=0)
    return bool(running)


def _death(run: "ray.ObjectRef[None]") -> str:
    """Return why a trainer died; an empty string if it is alive or its lane was closed."""
    ended, _ = ray.wait([run], timeout=0)
    try:
        ray.get(ended)
    except ray.exceptions.RayError as error:
        return first_line(error)
    return ""
