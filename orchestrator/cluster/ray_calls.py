"""Call Ray actors with a time limit, and recognise the errors that mean an actor has died."""

from collections.abc import Mapping
from typing import TypeVar, cast

import ray
from ray import cloudpickle
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from paretta.search_spaces.errors import ParettaError

_T = TypeVar("_T")


ANSWER_S = 60.0  # the job queue answers within milliseconds; after a minute without an answer it counts as dead


# errors of a call whose actor died; the second means that Ray killed it because its node ran out of memory
DEATHS = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)


def sealed(value: object) -> bytes:
    """Pickle `value`, including functions that are defined inside functions."""
    content: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return content


def answer(reference: "ray.ObjectRef[_T]", wait_s: float = 0.0) -> _T:
    """Fetch the answer of a call that may take `wait_s` seconds; a dead actor raises at once.

    An error of our own that the call raised is raised as it was, without Ray's account of the other process.
    """
    try:
        value: _T = ray.get(reference, timeout=wait_s + ANSWER_S)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ParettaError):
            raise error.cause from None
        raise
    return value


_A = TypeVar("_A")


def light_actor(kind: type[_A], environment: Mapping[str, str], *arguments: object) -> ActorHandle[_A]:
    """Start an actor on this process' node that reserves no CPU, so that it never displaces a worker.

    With soft affinity Ray could place it on any node, and it would die with that node.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote = ray.remote(kind).options(
        num_cpus=0,
        scheduling_strategy=here,
        runtime_env={"env_vars": dict(environment)} if environment else None,
    )
    return cast(ActorHandle[_A], remote.remote(*arguments))
