"""The interfaces of search algorithms and of rules that stop trials early."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol, TypeAlias, TypeVar

from paretta.orchestrator.search.advisor import Advisor
from paretta.search_spaces.space.holes import Label
from paretta.search_spaces.space.plan import Plan


class Stopper(Protocol):
    """Decides at each rung whether a trial goes on. Trials have the numbers that the strategy gave them."""

    def begin(self, number: int, knobs: Mapping[str, Label]) -> None:
        """Register a trial that was started."""

    def goes_on(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        """Decide by the trial's scores at a rung, by metric; called once for each rung, in ascending order."""

    def tell(self, number: int, losses: Sequence[float] | None, *, stopped: bool) -> None:
        """Record the end of a trial: its losses in the order of the objectives, None if it failed or was stopped."""


class NeverStop:
    """Stops nothing."""

    def begin(self, number: int, knobs: Mapping[str, Label]) -> None:
        """Do nothing."""

    def goes_on(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        """Return True."""
        return True

    def tell(self, number: int, losses: Sequence[float] | None, *, stopped: bool) -> None:
        """Do nothing."""


Verdict: TypeAlias = Literal["complete", "failed", "stopped early"]


class Strategy(Protocol):
    """A search algorithm. It may propose a plan twice; `Suggester` drops the repeats."""

    @property
    def advisor(self) -> Advisor | None:
        """The search policy of this strategy, which a stopper may share; None if it has none."""

    def ask(self, pinned: Mapping[str, Label] | None = None) -> tuple[int, Plan, Mapping[str, Label]]:
        """Propose a plan: return the strategy's number for it, the plan and its knobs by name.

        `pinned` fixes knobs by name; the strategy chooses the others.
        """

    def report(self, number: int, rung: int, scores: Mapping[str, float]) -> None:
        """Record a running proposal's scores at a rung, by metric."""

    def tell(self, number: int, verdict: Verdict, losses: Sequence[float] | None) -> None:
        """Record how a proposal ended; the losses are finite, and given if and only if it is complete."""

    def add_point(self, losses: Sequence[float]) -> None:
        """Add a delivered point that no proposal can produce."""


_Maker = TypeVar("_Maker", bound=Callable[..., Strategy])
_READS_KNOWN: Final = "reads_known_objectives"


def reads_known_objectives(make: _Maker) -> _Maker:
    """Mark a sampler that reads `Search.foresight`: every objective that is known before training is then looked up.

    For any other sampler, only what a limit or a stopper needs is looked up.
    """
    setattr(make, _READS_KNOWN, True)
    return make


def wants_known_objectives(make: object) -> bool:
    """Tell whether a sampler is marked by `reads_known_objectives`."""
    return bool(getattr(make, _READS_KNOWN, False))
