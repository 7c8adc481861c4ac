"""Every use of Ray's private interfaces, one function each; a test names any that a new version has removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled, without stubs

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
