"""Every use of Ray's private interfaces, one function each; a test names any that a new version has removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from ray._private import ray_constants, services
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled, without stubs

if TYPE_CHECKING:
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

# logs each package that is uploaded to a cluster
UPLOAD_LOGGER: Final = "ray._private.runtime_env.packaging"


def reread_environment() -> None:
    """Have Ray read authentication mode and token again: it caches them, and a process may connect twice."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def has_token() -> bool:
    """Return True if the environment or home folder has a cluster token, whatever the authentication mode."""
    return bool(AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True))


@contextmanager
def on_loopback() -> Iterator[None]:
    """Make Ray processes that are started inside the block listen on loopback only.

    `ray.init` deliberately rejects loopback addresses. Ray itself uses one on systems whose firewall would prompt the
    user; this sets the switch for that (Ray 2.60).
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def in_own_sessions() -> Iterator[None]:
    """Start Ray processes inside the block in sessions of their own, out of reach of signals to this process' group.

    A terminal sends Ctrl-C, and a batch system SIGTERM, to every process of the group; Ray would end while the driver
    still finishes its trials. When the driver dies, the kernel still kills them: Ray asks for that itself.
    """
    names = vars(services)
    before = names["ConsolePopen"]
    names["ConsolePopen"] = partial(before, start_new_session=True)
    try:
        yield
    finally:
        names["ConsolePopen"] = before


@contextmanager
def without_usage_tags() -> Iterator[None]:
    """Run Tune inside the block without the count of callbacks that Ray's usage report tells.

    The report is off here, but Tune imports each logger that Ray knows for it, and so MLflow: a second of CPU.
    """
    from ray.air._internal import usage  # noqa: PLC0415 - loads Ray Data, which Tune loads anyway

    before = usage.tag_callbacks
    usage.tag_callbacks = lambda callbacks: False
    try:
        yield
    finally:
        usage.tag_callbacks = before


def without_helpers(trainer: "DataParallelTrainer") -> "DataParallelTrainer":
    """Let `trainer` start only processes that a lane has use for, and return it.

    Ray Train starts one beside each worker group that removes the reservation of a dead controller, which the lane does
    itself, and one that deals out datasets, even where there is none. Each takes 2 to 3 s of CPU and 200 MB (Ray 2.60).
    """
    unused = {"PlacementGroupCleanerCallback", *(() if trainer.datasets else ("DatasetsCallback",))}
    default = trainer._create_default_callbacks

    def callbacks() -> list[object]:
        return [callback for callback in default() if type(callback).__name__ not in unused]

    vars(trainer)["_create_default_callbacks"] = callbacks
    return trainer
