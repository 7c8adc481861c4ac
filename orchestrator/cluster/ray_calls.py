"""Calls to Ray actors: with a time limit, and with what their death means."""

from collections.abc import Mapping
from typing import TypeVar, cast

import ray
from ray import cloudpickle
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_T = TypeVar("_T")


ANSWER_S = 60.0  # the job queue answers in milliseconds; a minute of silence means that it is gone


# what a call says whose actor died; the second where Ray ended the actor because its node ran short of memory
DEATHS = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)


def sealed(value: object) -> bytes:
    """Pickle `value`, functions defined inside functions included."""
    content: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return content


def answer(reference: "ray.ObjectRef[_T]", wait_s: float = 0.0) -> _T:
    """Fetch an answer that is due after `wait_s` seconds; a dead jobs raises, it is never waited for."""
    value: _T = ray.get(reference, timeout=wait_s + ANSWER_S)
    return value


_A = TypeVar("_A")


def light_actor(kind: type[_A], environment: Mapping[str, str], *arguments: object) -> ActorHandle[_A]:
    """Start an actor without CPU on this process' node, so that it never takes a worker's place.

    Were the affinity soft, Ray would put an actor that needs nothing on any node, whose death would then end it.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote = ray.remote(kind).options(
        num_cpus=0,
        scheduling_strategy=here,
        runtime_env={"env_vars": dict(environment)} if environment else None,
    )
    return cast(ActorHandle[_A], remote.remote(*arguments))
