"""No early stopping: every trial is trained to its end."""

from paretta.orchestrator.search.interfaces import NeverStop, Stopper, Strategy
from paretta.orchestrator.search.spec import Search


def make(search: Search, strategy: Strategy) -> Stopper:
    """Make a rule that lets every trial go on."""
    return NeverStop()
