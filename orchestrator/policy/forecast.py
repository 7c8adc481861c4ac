"""The model's predictions at one moment: losses, survival, and a candidate's improvement of the front."""

from dataclasses import dataclass

import numpy as np

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.candidate_table import CandidateTable
from paretta.orchestrator.policy.expected_improvement import Attained, exact, improvement_of_many, improvement_of_one
from paretta.orchestrator.policy.gaussian_process import GaussianProcess, Hyperparameters
from paretta.orchestrator.policy.problem import SearchProblem
from paretta.orchestrator.policy.run_history import RunHistory
from paretta.orchestrator.policy.surrogate import Posterior, Surrogate, SurrogateRows

_LEAST_SURVIVAL = 0.01  # no configuration is predicted to fail with certainty


@dataclass(frozen=True, slots=True)
class Forecast:
    """The model and the front at one moment.

    Args:
        problem: the search problem.
        posterior: the posterior of the learned objectives.
        front: [f, known + learned], finished trials at their smoothed losses and running trials at their predictions.
        attained: the attainment surface of that front, if the closed form of the improvement applies.
        survival: regression of trials that survived (1) or failed (0); None if none has failed.
    """

    problem: SearchProblem
    posterior: Posterior
    front: Array
    attained: Attained | None
    survival: GaussianProcess | None

    @classmethod
    def of(
        cls, problem: SearchProblem, table: CandidateTable, history: RunHistory, surrogate: Surrogate, *, most_rows: int
    ) -> "Forecast":
        """Fit the model to all reports. Raises `numpy.linalg.LinAlgError` if it cannot be fitted."""
        seen, distance, seen_losses = history.reports()
        running, finished = history.running(), history.near_front()
        rows = SurrogateRows(table.inputs[seen], distance, seen_losses, table.expected(seen))
        posterior = surrogate.posterior(rows, table.inputs[running], table.expected(running))
        reached = posterior.medians(table.inputs[finished], table.expected(finished))
        count, reference = len(problem.known), problem.reference
        others = np.array(history.others).reshape(-1, len(reference))
        losses = np.vstack([reached, posterior.believed, others[:, count:]])
        known = np.vstack([table.known[np.append(finished, running)], others[:, :count]])
        attained = None
        if exact(count, len(problem.learned)):
            attained = Attained.of(known, losses[:, 0], known_reference=reference[:count], reference=reference[-1])
        survival = _survival(table, history, most_rows)
        return cls(problem, posterior, np.hstack([known, losses]), attained, survival)

    def gain(self, known: Array, inputs: Array, expected: Array | None = None) -> Array:
        """Return the expected hypervolume improvement, [n]; before any trial keeps the limits, the chance to do so.

        Args:
            known: [n, known objectives].
            inputs: [n, d], the model inputs.
            expected: [n, learned], what the prior expects; None without one.
        """
        problem, alive = self.problem, self._chance_to_live(inputs)
        limits = np.array([objective.limit for objective in problem.learned])
        if np.isfinite(limits).any() and not (self.front[:, len(problem.known) :] <= limits).all(axis=1).any():
            return alive * self.posterior.within_limits(inputs, expected)
        mean, deviation = self.posterior.predict(inputs, expected)
        scales = tuple(objective.scale for objective in problem.learned)
        if self.attained is not None:
            return alive * improvement_of_one(self.attained, known, mean[:, 0], deviation[:, 0], scales[0])
        return alive * improvement_of_many(self.front, problem.reference, known, mean, deviation, scales=scales)

    def _chance_to_live(self, inputs: Array) -> Array:
        if self.survival is None:
            return np.ones(len(inputs))
        return np.asarray(self.survival.predict(inputs)[0].clip(_LEAST_SURVIVAL, 1.0))


def _survival(table: CandidateTable, history: RunHistory, most_rows: int) -> GaussianProcess | None:
    rows, lived = history.survivals(most_rows)
    if lived.all():
        return None
    inputs = table.inputs[rows]
    return GaussianProcess.of(inputs, np.zeros(len(inputs)), lived, Hyperparameters.typical(inputs.shape[1]))
