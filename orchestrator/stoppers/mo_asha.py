"""Successive halving for several objectives: at each rung the best trials so far go on, a third or more."""

from collections.abc import Mapping, Sequence

import numpy as np

from paretta.orchestrator.policy.successive_halving import SuccessiveHalving
from paretta.orchestrator.search.interfaces import Stopper, Strategy
from paretta.orchestrator.search.spec import Search
from paretta.search_spaces.space.holes import Label


def make(search: Search, strategy: Strategy) -> Stopper:
    """Make the stopping variant of ASHA (Li et al. 2020) ranked as in MO-ASHA (Schmucker et al. 2021).

    Trials rank by non-dominated layer, and inside a layer by their contribution to its hypervolume, since with three
    objectives most trials of a rung do not dominate each other. The share that goes on is the cost until the rung over
    the cost until the next one: a third for rungs after 1, 3 and 9 epochs, and more for a plan of several trainings,
    which has paid for the first ones before its first rung. It needs no model.
    """
    return _Halving(search)


class _Halving:
    def __init__(self, search: Search) -> None:
        self._search = search
        self._problem = search.problem()
        self._halving = SuccessiveHalving(self._problem.reference)
        self._knobs: dict[int, Mapping[str, Label]] = {}

    def begin(self, number: int, knobs: Mapping[str, Label]) -> None:
        self._knobs[number] = knobs

    def goes_on(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        scales, foresight = self._search.learned, self._search.foresight
        if any(scale.objective.meter not in scores for scale in scales):
            return True
        known = foresight.estimate([self._knobs[number]])[0] if foresight else np.empty(0)
        learned = [scale.learned(scores[scale.objective.meter]) for scale in scales]
        prefix = self._problem.prefix(self._knobs[number]) if self._problem.prefix else None
        keep = self._problem.rungs.share_spent(rung, prefix.cost if prefix else 0.0)
        return self._halving.report(rung, np.append(known, learned), keep=keep)

    def tell(self, number: int, losses: Sequence[float] | None, *, stopped: bool) -> None:
        if losses is not None and self._search.foresight is not None:
            knobs, values = self._knobs[number], self._search.values(losses)
            self._search.foresight.learn(self._search.plan(knobs), knobs, values)
