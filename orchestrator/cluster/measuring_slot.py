"""The measuring slot: the node that a sweep measures on, held exclusively during each measurement."""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from paretta.orchestrator.cluster.private_folder import private_folder
from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput

SLOT: Final = "latency_slot"  # the default; the sweep file may name another resource
WAIT_S: Final = 3600.0  # the time limit to acquire the slot while other sweeps measure on the node
_NODE_LABEL: Final = "ray.io/node-id"
_LOOK_S: Final = 0.02
_RAYS_OWN: Final = "ray.io/"
_ACCOUNTING: Final = ("node:", "object_store_memory", "memory")


@dataclass(frozen=True, slots=True)
class MeasuringSlot:
    """The node that a sweep measures on, and what a measurement holds there; can be pickled.

    Args:
        node: Ray's id of the node.
        bundle: the resources that a measurement reserves. They include no CPU, so that a measurement neither waits for
            a training nor delays one. Empty if the cluster has no such resource.
        lock: a file on the node that a measurement locks. It excludes sweeps in other clusters on the same node, and
            sweeps of a cluster without the resource. By default a file of this user's on that node.
    """

    node: str
    bundle: Mapping[str, float] = field(default_factory=dict)
    lock: Path | None = None

    @contextmanager
    def taken(self, wait_s: float = WAIT_S) -> Iterator[None]:
        """Hold the slot inside the block; it is also released when the process dies.

        Raises:
            TrialFailed: the slot was not free within `wait_s` seconds.
        """
        deadline = time.monotonic() + wait_s
        lock = self.lock or private_folder() / f"{SLOT}.lock"
        with _reserved(self.node, self.bundle, deadline), _locked(lock, deadline):
            yield


def choose_slot(
    resource: str = SLOT,
    pins: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    *,
    where: str = "measuring",
) -> MeasuringSlot:
    """Choose a node with all pins and labels; prefer one with the slot resource, then the driver's own.

    Args:
        resource: the Ray resource of which each measuring node has 1.
        pins: further resources that only the target nodes have, such as ``{"jetson": 1}``; also reserved while
            measuring.
        labels: Ray labels that only the target nodes have, such as ``{"board": "jetson"}``.
        where: the location of `pins` and `labels` in the sweep file, for error messages.

    Raises:
        WrongInput: no node has all of them; the message lists what the nodes have.
    """
    pins, labels, here = dict(pins or {}), dict(labels or {}), ray.get_runtime_context().get_node_id()
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    fitting = {node["NodeID"]: node["Resources"] for node in nodes if _fits(node, pins, labels)}
    if not fitting:
        wish = [*(f"{amount:g} {name}" for name, amount in pins.items()), *_words(labels)]
        hint = (
            f"start the target node with `ray start --resources` or `--labels`, or name what exists: {_offers(nodes)}"
        )
        raise WrongInput(Problem(where, f"no node of the cluster has {' + '.join(wish)} to measure on", hint=hint))
    node = max(fitting, key=lambda name: (fitting[name].get(resource, 0) >= 1, name == here))
    slot = {resource: 1.0} if fitting[node].get(resource, 0) >= 1 else {}
    return MeasuringSlot(node, {**pins, **slot})


def driver_node() -> MeasuringSlot:
    """Return the driver's node, from where the URL of an agent leads to it; nothing is measured on that node."""
    return MeasuringSlot(ray.get_runtime_context().get_node_id())


def _fits(node: Mapping[str, Any], pins: Mapping[str, float], labels: Mapping[str, str]) -> bool:
    has, called = node["Resources"], node["Labels"]
    return all(has.get(pin, 0) >= amount for pin, amount in pins.items()) and labels.items() <= called.items()


def _offers(nodes: Iterable[Mapping[str, Any]]) -> str:
    """Describe each node's custom resources and labels, without those that Ray adds itself."""
    offers = []
    for node in nodes:
        has = {name: amount for name, amount in node["Resources"].items() if not name.startswith(_ACCOUNTING)}
        called = {name: value for name, value in node["Labels"].items() if not name.startswith(_RAYS_OWN)}
        offers.append(", ".join([*(f"{amount:g} {name}" for name, amount in sorted(has.items())), *_words(called)]))
    return "; ".join(f"a node with {offer}" for offer in offers)


def _words(labels: Mapping[str, str]) -> list[str]:
    return [f"label {name}={value}" for name, value in sorted(labels.items())]


@contextmanager
def _reserved(node: str, bundle: Mapping[str, float], deadline: float) -> Iterator[None]:
    """Reserve the resources with a placement group, which Ray removes when the process that made it dies."""
    if not bundle:
        yield
        return
    group = placement_group([dict(bundle)], bundle_label_selector=[{_NODE_LABEL: node}])
    try:
        if not group.wait(max(deadline - time.monotonic(), _LOOK_S)):
            raise TrialFailed(f"measure: {' + '.join(bundle)} did not become free on its node")
        yield
    finally:
        remove_placement_group(group)


@contextmanager
def _locked(path: Path, deadline: float) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TrialFailed(f"measure: {path} did not become free: another sweep measures here") from None
                time.sleep(_LOOK_S)
        yield
    finally:
        os.close(descriptor)
