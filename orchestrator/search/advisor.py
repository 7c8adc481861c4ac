"""Adapt the search policy to a sweep's terms: trials by number, readings by meter."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from paretta.orchestrator.policy.encoding import Configuration
from paretta.orchestrator.policy.grey_box import GreyBox
from paretta.orchestrator.search.spec import Search
from paretta.search_spaces.space.holes import Label


class Advisor:
    """A `GreyBox` for a search, which a sampler asks what to train, a stopper what to stop, or both.

    Args:
        search: the search; its baseline must have been measured.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self.policy = GreyBox(search.problem(), seed=search.seed)
        self._numbers: dict[int, int] = {}
        self._configs: dict[int, Configuration] = {}

    def propose(self, number: int) -> Mapping[str, Label] | None:
        """Return the knobs for trial `number`, or None if nothing is left to propose."""
        candidate = self.policy.ask()
        if candidate is None:
            return None
        self._numbers[number], self._configs[number] = candidate.number, candidate.config
        return candidate.config

    def begin(self, number: int, knobs: Mapping[str, Label]) -> None:
        """Register trial `number`, started with knobs that the caller chose."""
        if number not in self._numbers:
            self._numbers[number], self._configs[number] = self.policy.start(knobs), knobs

    def known(self, number: int) -> NDArray[np.float64]:
        """Return the losses [known] of a trial that were known before training."""
        foresight = self.search.foresight
        return foresight.estimate([self._configs[number]])[0] if foresight else np.empty(0)

    def observe(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        """Record a trial's scores by metric at a rung; return False if they lack a learned objective."""
        losses = self._learned(scores)
        if losses is None:
            return False
        self.policy.observe(self._numbers[number], self.search.rungs.fidelities[rung], losses)
        return True

    def goes_on(self, number: int) -> bool:
        """Decide whether a trial goes on after its last observation."""
        return self.policy.goes_on(self._numbers[number])

    def tell(self, number: int, losses: Sequence[float] | None, *, stopped: bool = False) -> None:
        """Record how a trial ended: its losses in the order of the objectives, None if it has none."""
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
        """Add a point of the front that no knobs of this space produce."""
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
