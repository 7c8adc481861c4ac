"""The grey-box search policy: train the candidate with the largest expected hypervolume improvement per cost."""

import math
from collections import deque
from collections.abc import Mapping

import numpy as np

from paretta.orchestrator.policy.acquisition import Acquisition, Scored
from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.candidate_table import CandidateTable
from paretta.orchestrator.policy.encoding import Configuration, Coordinates
from paretta.orchestrator.policy.forecast import Forecast
from paretta.orchestrator.policy.problem import Candidate, SearchProblem
from paretta.orchestrator.policy.run_history import Run, RunHistory
from paretta.orchestrator.policy.settings import GreyBoxSettings
from paretta.orchestrator.policy.successive_halving import SuccessiveHalving
from paretta.orchestrator.policy.surrogate import Surrogate, SurrogateRows


class GreyBox:
    """A search that takes objectives known before training as given and models only the others.

    The index of a candidate is its expected hypervolume improvement per cost, of a running trial per remaining cost;
    a trial is stopped if a new candidate has a clearly higher index. In the front to be improved, running trials are at
    their predicted means and finished ones at their smoothed losses. The same seed and order of calls give the same
    answers; the object can be pickled between any two calls.

    Args:
        problem: the search problem.
        seed: the seed of all random choices.
        settings: settings of the policy.
    """

    def __init__(self, problem: SearchProblem, *, seed: int = 0, settings: GreyBoxSettings | None = None) -> None:
        self.problem, self.settings = problem, settings or GreyBoxSettings()
        space = Coordinates(problem.knobs)
        self._space, self._table = space, CandidateTable(problem, space)
        self._history = RunHistory(problem, self._table)
        rng = np.random.default_rng(seed)
        self._acquisition = Acquisition(problem, self.settings, space, self._table, self._history, rng)
        self._surrogate = Surrogate(
            problem.learned,
            most_rows=self.settings.most_rows,
            most_rows_fitted=self.settings.most_rows_fitted,
            growth=self.settings.refit_growth,
            seed=seed,
            prior=problem.prior,
        )
        self._halving = SuccessiveHalving(problem.reference)
        self._first = deque(problem.warm_start)
        self._forecast_now: Forecast | None = None
        self._best_now: Scored | None = None
        self._is_weighed = False

    @property
    def prior_weights(self) -> Array:
        """How much of the problem's prior is believed, for each learned objective, [l]; 0 without a prior."""
        return self._surrogate.weights

    def ask(self) -> Candidate | None:
        """Return the next candidate to train, or None if nothing is left to propose."""
        while self._first:
            row = self._acquisition.row_of(self._first.popleft())
            if self._acquisition.may_start(row):
                return self._start(Scored(row, math.nan))
        while (choice := self._choice()) is not None:
            if self._acquisition.may_start(choice.row):
                return self._start(choice)
            self._changed()
        return None

    def start(self, config: Configuration) -> int:
        """Register a configuration that the caller chose as a running trial, and return its number."""
        return self._start(Scored(self._acquisition.row_of(config), math.nan)).number

    def report(self, number: int, fidelity: float, losses: Mapping[str, float]) -> bool:
        """Record the losses of a running trial at a rung; return True if it should go on.

        Args:
            number: of the candidate.
            fidelity: one of the problem's rungs.
            losses: of the learned objectives, by name.

        Raises:
            ValueError: no such rung, or a loss is not finite.
        """
        self.observe(number, fidelity, losses)
        return self.goes_on(number)

    def observe(self, number: int, fidelity: float, losses: Mapping[str, float]) -> None:
        """Record the losses of a running trial at a rung without a decision. Arguments and errors as in `report`."""
        run, rung = self._history[number], self.problem.rungs.at(fidelity)
        self._history.observe(run, rung, losses)
        run.ranks_high = self._halving.report(rung, np.append(self._table.known[run.row], run.readings[-1][1]))
        self._changed()

    def goes_on(self, number: int) -> bool:
        """Decide whether a running trial goes on after its last report; if not, it counts as stopped.

        Until a trial has finished, the oldest running one always goes on. Otherwise every trial would be stopped in
        turn, because an unknown candidate looks better than any partly trained one.
        """
        run = self._history[number]
        if not run.readings or run.readings[-1][0] == self.problem.rungs.last or self._history.is_first_to_finish(run):
            return True
        run.state = "stopped"  # compute the gain of going on against a front without this trial
        self._changed()
        goes_on = self._is_worth(run)
        if goes_on:
            run.state = "running"
            self._changed()
        return goes_on

    def stop(self, number: int) -> None:
        """Count a running trial as stopped by the caller; its reports are kept."""
        self._history[number].state = "stopped"
        self._changed()

    def tell(self, number: int, losses: Mapping[str, float] | None, known: Array | None = None) -> None:
        """Record how a trial ended.

        Args:
            number: of the candidate.
            losses: the final losses of the learned objectives by name; None if it failed.
            known: [known], the measured values of the known objectives, if they were measured.

        Raises:
            ValueError: a loss is not finite.
        """
        run = self._history[number]
        run.state = "failed"
        if losses is not None:
            if known is not None:
                self._table.correct(run.row, known)
            self._history.observe(run, self.problem.rungs.last, losses)
            run.state = "finished"
        self._changed()

    def add_point(self, known: Array, losses: Array) -> None:
        """Add a point of the front, [known] and [learned], that no configuration of this space produces."""
        self._history.others.append(np.append(known, losses))
        self._changed()

    def learn(
        self,
        config: Configuration,
        fidelity: float,
        losses: Mapping[str, float],
        *,
        attained: bool,
        known: Array | None = None,
    ) -> None:
        """Add a point that this search did not ask for, such as one of an earlier sweep.

        Args:
            config: its knobs.
            fidelity: the rung it was measured at.
            losses: of the learned objectives, by name.
            attained: True if its artifact exists, so that it is part of the front and is not trained again.
            known: [known], the known objectives, if they were measured.
        """
        row = self._acquisition.row_of(config)
        if known is not None:
            self._table.correct(row, known)
        run = Run(row, "finished" if attained else "stopped")
        self._history.observe(run, self.problem.rungs.at(fidelity), losses)
        self._history.runs.append(run)
        self._table.taken[row] |= attained
        self._changed()

    def _choice(self) -> Scored | None:
        """Return the next configuration to start; the index of an initial trial is NaN."""
        num_initial = self.settings.num_initial_learned if self._trusts_prior() else self.settings.num_initial
        if not len(self._table.codes) and not num_initial:
            self._acquisition.spread()
        forecast = None if len(self._history) < num_initial else self._forecast()
        if forecast is None:
            is_far = len(self._history) < num_initial
            row = self._acquisition.spread() if is_far else self._acquisition.further()
            return None if row is None else Scored(row, math.nan)
        self._best_now = self._acquisition.looked_up(self._best(forecast), forecast)
        return self._best_now

    def _start(self, choice: Scored) -> Candidate:
        number = self._history.start(choice.row)
        self._changed()
        config, prefix = self._space.decode(self._table.codes[choice.row]), self._table.prefixes[choice.row]
        self._history.compact()
        return Candidate(number, config, prefix, choice.index)

    def _is_worth(self, run: Run) -> bool:
        """Return True if going on has about as high an index as the best new candidate.

        With many workers see `crowded`, `kept` and `calm` of the settings.
        """
        forecast, num_running = self._forecast(), self._history.count("running") + 1
        is_crowded, num_finished = num_running > self.settings.crowded, self._history.count("finished")
        if forecast is None:
            return run.ranks_high or is_crowded
        index, patience = self._index(run, forecast), self.settings.patience
        if is_crowded:
            left = math.ceil(self.settings.kept * num_running) - num_finished
            if left > 0 and self._rank(index, forecast) < left:
                return True
            if num_finished < self.settings.calm * num_running:
                patience *= (num_running / self.settings.num_initial) ** 2
        best = self._best(forecast)
        return best is None or index * patience >= best.index

    def _index(self, run: Run, forecast: Forecast) -> float:
        """Return the expected hypervolume improvement of a trial that has reported, per remaining cost."""
        costs = self.problem.rungs.costs
        return self._acquisition.gain(run.row, forecast) / (costs[-1] - costs[run.readings[-1][0]])

    def _rank(self, index: float, forecast: Forecast) -> int:
        """Return how many of the running trials that have reported have a higher index."""
        others = (run for run in self._history.runs if run.state == "running" and run.readings)
        return sum(self._index(other, forecast) > index for other in others)

    def _trusts_prior(self) -> bool:
        """Weigh the prior by the reports so far; return True if any of it is left."""
        if self.problem.prior is None:
            return False
        if not self._is_weighed:
            seen, distance, losses = self._history.last_reports()
            inputs = self._table.inputs[seen]
            self._surrogate.weigh(SurrogateRows(inputs, distance, losses, self._table.expected(seen)))
            self._is_weighed = True
        return bool(self._surrogate.weights.any())

    def _forecast(self) -> Forecast | None:
        """Return the current model, or None if there is too little data or the fit fails."""
        least = self.settings.num_initial_learned if self._trusts_prior() else self.settings.min_rows
        if self._forecast_now is None and self._history.num_reports >= least:
            most_rows = self.settings.most_rows
            try:
                self._forecast_now = Forecast.of(
                    self.problem, self._table, self._history, self._surrogate, most_rows=most_rows
                )
            except np.linalg.LinAlgError:
                return None
        return self._forecast_now

    def _best(self, forecast: Forecast) -> Scored | None:
        if self._best_now is None:
            self._best_now = self._acquisition.best(forecast)
        return self._best_now

    def _changed(self) -> None:
        """Drop the model of the previous state."""
        self._forecast_now = self._best_now = None
        self._is_weighed = False
