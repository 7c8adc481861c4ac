"""Stops a trial if a new candidate has a clearly higher expected hypervolume improvement per cost."""

from collections.abc import Mapping, Sequence

from paretta.orchestrator.search.advisor import Advisor
from paretta.orchestrator.search.interfaces import Stopper, Strategy
from paretta.orchestrator.search.spec import Search
from paretta.search_spaces.space.holes import Label


def make(search: Search, strategy: Strategy) -> Stopper:
    """Make the stopping rule of `policy.grey_box`: expected hypervolume improvement per remaining cost.

    With the sampler ``grey_box`` both share one model; with any other sampler the stopper has its own, which is fitted
    to every trial. Until there is enough data for a model, successive halving decides.
    """
    return _Index(strategy.advisor or Advisor(search), shared=strategy.advisor is not None)


class _Index:
    def __init__(self, advisor: Advisor, *, shared: bool) -> None:
        self._advisor, self._shared = advisor, shared

    def begin(self, number: int, knobs: Mapping[str, Label]) -> None:
        if not self._shared:
            self._advisor.begin(number, knobs)

    def goes_on(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        if not self._shared and not self._advisor.observe(number, rung, scores):
            return True
        return self._advisor.goes_on(number)

    def tell(self, number: int, losses: Sequence[float] | None, *, stopped: bool) -> None:
        if not self._shared:
            self._advisor.tell(number, losses, stopped=stopped)
