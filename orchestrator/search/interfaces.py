"""What may stop a trial before its end."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from paretta.orchestrator.search.advisor import Advisor
from paretta.search_spaces.space.holes import Label
from paretta.search_spaces.space.plan import Plan


class Stopper(Protocol):
    """Decides at each rung whether a trial goes on. Trials go by the numbers that the strategy gave them."""

    def begin(self, number: int, knobs: Mapping[str, Label]) -> None:
        """A trial was begun."""

    def goes_on(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        """Decide, given the scores by metric that the trial reports at a rung; called once a rung, in rising order."""

    def tell(self, number: int, losses: Sequence[float] | None, *, stopped: bool) -> None:
        """A trial ended: its losses in the order of the objectives, None where it failed or was stopped."""


class NeverStop:
    """Stops nothing."""

    def begin(self, number: int, knobs: Mapping[str, Label]) -> None:
        """Nothing to keep."""

    def goes_on(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        """Go on."""
        return True

    def tell(self, number: int, losses: Sequence[float] | None, *, stopped: bool) -> None:
        """Nothing to learn."""


Verdict: TypeAlias = Literal["complete", "failed", "stopped early"]


class Strategy(Protocol):
    """A search algorithm. It may propose the same plan twice; `Suggester` sees to that."""

    @property
    def advisor(self) -> Advisor | None:
        """The search policy behind it, for a stopper to share; None where there is none."""

    def ask(self, pinned: Mapping[str, Label] | None = None) -> tuple[int, Plan, Mapping[str, Label]]:
        """Propose a plan: the strategy's own number for it, the plan and its knobs by name.

        `pinned` answers by knob name; what it leaves out is the strategy's choice.
        """

    def report(self, number: int, rung: int, scores: Mapping[str, float]) -> None:
        """Learn how good a running proposal is at a rung, by metric."""

    def tell(self, number: int, verdict: Verdict, losses: Sequence[float] | None) -> None:
        """Learn what became of a proposal; losses are finite, and there exactly when it is complete."""

    def add_point(self, losses: Sequence[float]) -> None:
        """Learn of a delivered point that no proposal can lead to."""
