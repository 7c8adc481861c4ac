"""The parts of Ray that are not its public interface, each in one function; a test names the one that is gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled, without stubs

# tells which package is uploaded to a cluster
UPLOAD_LOGGER: Final = "ray._private.runtime_env.packaging"


def reread_environment() -> None:
    """Look for mode and token once more: Ray keeps them from its first look, and a process may connect twice."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def has_token() -> bool:
    """Say whether the environment or the home folder has a token for clusters, whatever the mode."""
    return bool(AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True))


@contextmanager
def on_loopback() -> Iterator[None]:
    """Have Ray's processes that are started inside the block listen on loopback only.

    `ray.init` takes no loopback address, on purpose; but on systems whose firewall would ask the user Ray takes one by
    itself, and this is the switch for it (2.60).
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
