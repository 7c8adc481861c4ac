"""Which candidate next, where it runs, and when to stop.

from orchestrator import launch
front = launch("digits")
front.pick(at_most={"size": "20kB"}); front.to_frame(); front.pull("best")
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.launcher import launch, resume
    from orchestrator.sweep import Sweep

__all__ = ["Sweep", "launch", "resume"]


def __getattr__(name: str) -> object:
    """Load the public names when they are first used, so that importing the package costs nothing."""
    if name in {"launch", "resume"}:
        from orchestrator import launcher  # noqa: PLC0415

        return getattr(launcher, name)
    if name == "Sweep":
        from orchestrator.sweep import Sweep  # noqa: PLC0415

        return Sweep
    raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
