"""The actor that divides a shared cluster among the sweeps on it and asks its autoscaler for nodes; their way to it."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

import ray
from ray.actor import ActorHandle, exit_actor
from ray.autoscaler.sdk import request_resources
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from paretta.orchestrator.cluster.fair_share import TURN_S, FairShare, LaneGrant, LaneRequest
from paretta.orchestrator.cluster.ray_calls import answer

_NAMESPACE = "paretta"
_NAME = "lane-broker-2"  # with the version of its messages; sweeps of another version do not share with these
_LOOK_S = 10.0  # seconds between two looks for sweeps that have become silent
_ROOM_S: Final = 1.0  # seconds between two looks for room
_ATTEMPTS, _BETWEEN_S = 20, 0.5  # a name is free again some time after its actor has ended


class LaneBroker:
    """One actor per cluster, started by the first sweep and ended with the last; see `FairShare`.

    The cluster's autoscaler, if there is one, is asked for room for all lanes that the sweeps have use for, within the
    limits of its own configuration. It keeps nodes as long as they are asked for, also if drivers have died, so a
    thread forgets sweeps that have become silent.
    """

    def __init__(self, turn_s: float = TURN_S) -> None:
        self.shares = FairShare(time.monotonic, turn_s=turn_s)
        self.lock = threading.Lock()
        self.asked: list[dict[str, float]] = []
        threading.Thread(target=self._watch, name="paretta-silent-sweeps", daemon=True).start()

    def ask(self, name: str, request: LaneRequest) -> LaneGrant:
        """See `FairShare.ask`; the capacity is that of the cluster's nodes that are alive now."""
        capacity = ray.cluster_resources()  # type: ignore[no-untyped-call]
        with self.lock:
            grant = self.shares.ask(name, request, capacity)
            self._scale()
        return grant

    def leave(self, name: str) -> None:
        """See `FairShare.leave`; the actor ends with the last sweep."""
        with self.lock:
            over = self.shares.leave(name)
            self._scale()
        if over:
            exit_actor()  # type: ignore[no-untyped-call]

    def _scale(self) -> None:
        useful = self.shares.useful()
        if useful != self.asked:
            request_resources(bundles=useful)
            self.asked = useful

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            with self.lock:
                over = self.shares.is_over()
                self._scale()
            if over:
                ray.kill(ray.get_runtime_context().current_actor)


def broker(turn_s: float = TURN_S) -> ActorHandle[LaneBroker]:
    """Return the cluster's broker; start it if there is none, on this node, so that it keeps no other one alive."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    remote = ray.remote(LaneBroker).options(
        name=_NAME,
        namespace=_NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        num_cpus=0,
        scheduling_strategy=here,
    )
    return cast("ActorHandle[LaneBroker]", remote.remote(turn_s))


def unique_name(sweep: str) -> str:
    """Return the name under which this process' sweep asks: sweeps of several homes may be called the same."""
    return f"{sweep}#{ray.get_runtime_context().get_job_id()}"


def ask_broker(name: str, request: LaneRequest) -> LaneGrant:
    """Return how many lanes the sweep may have now; if the broker is just ending with another sweep, start a new one.

    Raises:
        ray.exceptions.RayActorError: brokers end one after the other.
    """
    for _ in range(_ATTEMPTS - 1):
        with suppress(ray.exceptions.RayActorError):
            return answer(broker().ask.remote(name, request))
        time.sleep(_BETWEEN_S)
    return answer(broker().ask.remote(name, request))


def await_room(name: str, request: LaneRequest, has_room: Callable[[], bool], *, timeout_s: float) -> None:
    """Wait up to `timeout_s` seconds for nodes that the autoscaler brings; it is asked for what `request` has use for.

    The sweep stays known to the broker if there is room now; otherwise it leaves.
    """
    deadline = time.monotonic() + timeout_s
    while not has_room():
        if time.monotonic() > deadline:
            leave_broker(name)
            return
        ask_broker(name, request)
        time.sleep(min(_ROOM_S, timeout_s))


def leave_broker(name: str) -> None:
    """Tell the broker that the sweep has ended."""
    with suppress(ray.exceptions.RayError, TimeoutError):
        broker().leave.remote(name)
