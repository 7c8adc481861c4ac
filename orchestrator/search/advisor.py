"""The search policy in the words of a sweep: trials by number, readings by meter."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from paretta.orchestrator.policy.encoding import Configuration
from paretta.orchestrator.policy.grey_box import GreyBox
from paretta.orchestrator.search.spec import Search
from paretta.search_spaces.space.holes import Label


class Advisor:
    """One `GreyBox` for a search; a sampler asks it what to train, a stopper what to stop, and both may share it.

    Args:
        search: what is searched; its baseline must have been measured.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self.policy = GreyBox(search.problem(), seed=search.seed)
        self._numbers: dict[int, int] = {}
        self._configs: dict[int, Configuration] = {}

    def propose(self, number: int) -> Mapping[str, Label] | None:
        """Return the knobs that trial `number` should take, None where nothing is left."""
        candidate = self.policy.ask()
        if candidate is None:
            return None
        self._numbers[number], self._configs[number] = candidate.number, candidate.config
        return candidate.config

    def begin(self, number: int, knobs: Mapping[str, Label]) -> None:
        """Learn that trial `number` was begun with knobs that someone else chose."""
        if number not in self._numbers:
            self._numbers[number], self._configs[number] = self.policy.start(knobs), knobs

    def known(self, number: int) -> NDArray[np.float64]:
        """Return the losses [known] of a trial that are known before training."""
        foresight = self.search.foresight
        return foresight.estimate([self._configs[number]])[0] if foresight else np.empty(0)

    def observe(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        """Learn how good a trial is at a rung, by metric; False where the scores do not tell all that is learned."""
        losses = self._learned(scores)
        if losses is None:
            return False
        self.policy.observe(self._numbers[number], self.search.rungs.fidelities[rung], losses)
        return True

    def goes_on(self, number: int) -> bool:
        """Decide whether a trial goes on after what was observed last."""
        return self.policy.goes_on(self._numbers[number])

    def tell(self, number: int, losses: Sequence[float] | None, *, stopped: bool = False) -> None:
        """Learn how a trial ended: its losses in the order of the objectives, None where it has none."""
        if number not in self._numbers:
            return
        own = self._numbers[number]
        if stopped:
            self.policy.stop(own)
        elif losses is None:
            self.policy.tell(own, None)
        else:
            values = self.search.values(losses)
            self.policy.tell(own, self._learned(values), self._known(values, self._configs[number]))

    def add_point(self, losses: Sequence[float]) -> None:
        """Learn of a point of the front that no knobs of this space lead to."""
        values = self.search.values(losses)
        learned = [scale.as_learned().name for scale in self.search.learned]
        found = self._learned(values)
        assert found is not None
        self.policy.add_point(self._known(values), np.array([found[name] for name in learned]))

    def _learned(self, values: Mapping[str, float]) -> dict[str, float] | None:
        scales = self.search.learned
        if any(scale.objective.meter not in values for scale in scales):
            return None
        return {scale.objective.meter: scale.learned(values[scale.objective.meter]) for scale in scales}

    def _known(self, values: Mapping[str, float], config: Configuration | None = None) -> NDArray[np.float64]:
        foresight = self.search.foresight
        if foresight is None:
            return np.empty(0)
        if config is not None:
            return foresight.learn(self.search.plan(config), config, values)
        return np.array([scale.known(values[scale.objective.meter]) for scale in foresight.scales])
