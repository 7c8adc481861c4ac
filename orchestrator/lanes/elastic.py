"""Keep the number of a sweep's lanes at its share of a cluster that other sweeps use too."""

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

import ray

from paretta.orchestrator.cluster.fair_share import LaneRequest
from paretta.orchestrator.cluster.lane_broker import ask_broker, leave_broker
from paretta.orchestrator.lanes.pool import LanePool

_ASK_S: Final = 2.0  # seconds between two requests


class ElasticLanes:
    """Asks for lanes from a thread of the driver, and gives lanes back between two jobs, inside a ``with`` block.

    Args:
        lanes: the pool; it is entered without lanes.
        name: of the sweep.
        resources: of one lane, with all its workers, by Ray's names.
        fitting: returns the number of lanes that the sweep has use for and the cluster has room for.
        priority: the weight of the sweep among those on the cluster.
        show: shows a line to the user.
    """

    def __init__(
        self,
        lanes: LanePool,
        name: str,
        resources: Mapping[str, float],
        *,
        fitting: Callable[[], int],
        priority: float,
        show: Callable[[str], None],
    ) -> None:
        self._lanes, self._resources, self._fitting = lanes, resources, fitting
        self._name = f"{name}#{ray.get_runtime_context().get_job_id()}"
        self._priority, self._show = priority, show
        self._at_most: int | None = None
        self.granted = -1
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="paretta-elastic-lanes", daemon=True)

    def need(self, at_most: int | None) -> None:
        """Set how many lanes the sweep has use for, such as the trials that still run; None: as many as it may have."""
        self._at_most = at_most

    def __enter__(self) -> Self:
        """Ask for the first lanes, and go on asking in a thread."""
        self._ask()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop asking, and give the share up; lanes that are still at work end within seconds."""
        self._over.set()
        self._thread.join()
        leave_broker(self._name)

    def _keep(self) -> None:
        while not self._over.wait(_ASK_S):
            try:
                self._ask()
            except (ray.exceptions.RayError, TimeoutError):
                continue  # the lanes stay as they are; the driver notices by itself that its own actors are dead

    def _ask(self) -> None:
        fitting = self._fitting()
        wanted = fitting if self._at_most is None else min(fitting, self._at_most)
        grant = ask_broker(self._name, LaneRequest(self._resources, wanted, self._lanes.alive(), self._priority))
        self._lanes.resize(grant.lanes)
        if grant.lanes != self.granted:
            others = ", ".join(other.partition("#")[0] for other in grant.others)
            shared = f"; the cluster is shared with {others}" if others else ""
            self._show((f"{grant.lanes} lane(s)" if grant.lanes else "waiting for a lane") + shared)
        self.granted = grant.lanes
