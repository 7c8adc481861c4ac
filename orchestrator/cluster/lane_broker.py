"""The actor that divides a shared cluster among the sweeps on it, and their way to it."""

import time
from contextlib import suppress
from typing import cast

import ray
from ray.actor import ActorHandle, exit_actor

from paretta.orchestrator.cluster.fair_share import FairShare, LaneGrant, LaneRequest
from paretta.orchestrator.cluster.ray_calls import answer

_NAMESPACE = "paretta"
_NAME = "lane-broker-1"  # with the version of its messages; sweeps of another version do not share with these
_ATTEMPTS, _BETWEEN_S = 20, 0.5  # a name is free again some time after its actor has ended


class LaneBroker:
    """One actor per cluster, started by the first sweep and ended by the last; see `FairShare`."""

    def __init__(self) -> None:
        self.shares = FairShare(time.monotonic)

    def ask(self, name: str, request: LaneRequest) -> LaneGrant:
        """See `FairShare.ask`; the capacity is that of the cluster's nodes that are alive now."""
        capacity = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return self.shares.ask(name, request, capacity)

    def leave(self, name: str) -> None:
        """See `FairShare.leave`; the actor ends with the last sweep."""
        if self.shares.leave(name):
            exit_actor()  # type: ignore[no-untyped-call]


def broker() -> ActorHandle[LaneBroker]:
    """Return the cluster's broker; start it if there is none."""
    remote = ray.remote(LaneBroker).options(
        name=_NAME, namespace=_NAMESPACE, get_if_exists=True, lifetime="detached", num_cpus=0
    )
    return cast("ActorHandle[LaneBroker]", remote.remote())


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


def leave_broker(name: str) -> None:
    """Tell the broker that the sweep has ended."""
    with suppress(ray.exceptions.RayError, TimeoutError):
        broker().leave.remote(name)
