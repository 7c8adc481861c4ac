"""Keep the number of a sweep's lanes at its share of a cluster that other sweeps use too."""

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import ray

from paretta.orchestrator.cluster.fair_share import LaneRequest, total
from paretta.orchestrator.cluster.lane_broker import ask_broker, leave_broker
from paretta.orchestrator.lanes.pool import LanePool

_ASK_S: Final = 2.0  # seconds between two requests


class ElasticLanes:
    """Asks for lanes from a thread of the driver, and gives lanes back between two jobs, inside a ``with`` block.

    Args:
        lanes: the pool; it is entered without lanes.
        name: of the sweep, see `paretta.orchestrator.cluster.lane_broker.unique_name`.
        bundles: the resources of one lane by Ray's names, in parts that must each fit a node, such as one worker.
        fitting: returns the number of lanes that the sweep has use for and the cluster has room for.
        useful: the number of lanes that the sweep has use for; an autoscaler is asked for room for them.
        priority: the weight of the sweep among those on the cluster.
        show: shows a line to the user.
    """

    def __init__(
        self,
        lanes: LanePool,
        name: str,
        bundles: Sequence[Mapping[str, float]],
        *,
        fitting: Callable[[], int],
        useful: int,
        priority: float,
        show: Callable[[str], None],
    ) -> None:
        self._lanes, self._bundles, self._fitting, self._useful = lanes, tuple(bundles), fitting, useful
        self._resources = total(bundles)
        self._name = name
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
        most = self._useful if self._at_most is None else min(self._useful, self._at_most)
        wanted, held = min(fitting, most), self._lanes.alive()
        started = self._lanes.ready() > 0
        request = LaneRequest(
            self._resources, wanted, held, self._priority, started=started, useful=most, bundles=self._bundles
        )
        grant = ask_broker(self._name, request)
        self._lanes.resize(grant.lanes)
        if grant.lanes != self.granted:
            others = ", ".join(other.partition("#")[0] for other in grant.others)
            shared = f"; the cluster is shared with {others}" if others else ""
            self._show((f"{grant.lanes} lane(s)" if grant.lanes else "waiting for a lane") + shared)
        self.granted = grant.lanes
