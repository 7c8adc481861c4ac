"""What may stop a trial before its end."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from search_spaces.holes import Label


class Stopper(Protocol):
    """Decides at each rung whether a trial goes on. Trials go by the numbers that the strategy gave them."""

    def begin(self, number: int, knobs: Mapping[str, Label]) -> None:
        """A trial was begun."""

    def goes_on(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        """Decide, given the scores by metric that the trial reports at a rung; called once a rung, in rising order."""

    def tell(self, number: int, losses: Sequence[float] | None, *, pruned: bool) -> None:
        """A trial ended: its losses in the order of the objectives, None where it failed or was stopped."""


class Never:
    """Stops nothing."""

    def begin(self, number: int, knobs: Mapping[str, Label]) -> None:
        """Nothing to keep."""

    def goes_on(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        """Go on."""
        return True

    def tell(self, number: int, losses: Sequence[float] | None, *, pruned: bool) -> None:
        """Nothing to learn."""
