"""Random search, with or without multi-objective successive halving."""

import math
from collections.abc import Mapping

import numpy as np

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.encoding import Coordinates
from paretta.orchestrator.policy.problem import Candidate, SearchProblem
from paretta.orchestrator.policy.successive_halving import SuccessiveHalving


class RandomSearch:
    """Proposes random configurations without repeats.

    Args:
        problem: only its knobs, known limits and reference point are used.
        seed: of the draws.
        halving: stops trials early; None to run all to the end.
        share_prefixes: False to start every trial from scratch.
    """

    def __init__(
        self,
        problem: SearchProblem,
        *,
        seed: int,
        halving: SuccessiveHalving | None = None,
        share_prefixes: bool = False,
    ) -> None:
        self._problem, self._halving, self._share = problem, halving, share_prefixes
        self._space, self._rng = Coordinates(problem.knobs), np.random.default_rng(seed)
        self._seen: set[bytes] = set()
        self._known: list[Array] = []
        self._before: list[float] = []  # the cost of the prefix of each trial

    def ask(self) -> Candidate | None:
        """Return a new configuration, or None if a thousand draws found none."""
        for _ in range(1000):
            code = self._space.draw(1, self._rng)
            key = self._space.keys(code)[0]
            if key not in self._seen:
                self._seen.add(key)
                return self._candidate(code[0])
        return None

    def report(self, number: int, fidelity: float, losses: Mapping[str, float]) -> bool:
        """Apply successive halving, if it is used."""
        if self._halving is None:
            return True
        learned = [losses[objective.name] for objective in self._problem.learned]
        rung = self._problem.rungs.at(fidelity)
        keep = self._problem.rungs.share_spent(rung, self._before[number])
        return self._halving.report(rung, np.append(self._known[number], learned), keep=keep)

    def tell(self, number: int, losses: Mapping[str, float] | None) -> None:
        """Do nothing."""

    def _candidate(self, code: Array) -> Candidate:
        config = self._space.decode(code)
        facts = self._problem.known_losses
        self._known.append(facts([config])[0] if facts else np.empty(0))
        prefix = self._problem.prefix(config) if self._problem.prefix else None
        self._before.append(prefix.cost if prefix else 0.0)
        return Candidate(len(self._known) - 1, config, prefix if self._share else None, math.nan)
