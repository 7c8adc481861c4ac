"""The search policy: train the candidate with the largest expected hypervolume improvement per remaining cost."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from orchestrator.policy.catalogue import Catalogue, Places
from orchestrator.policy.features import Config, Coordinates
from orchestrator.policy.improvement import Attained, exact, improvement_of_many, improvement_of_one
from orchestrator.policy.problem import Candidate, Problem
from orchestrator.policy.successive_halving import SuccessiveHalving
from orchestrator.policy.surrogate import Posterior, Rows, Surrogate
from search_spaces.pareto import non_dominated

Array: TypeAlias = NDArray[np.float64]
_MANY = 200  # finished trials beyond which only those near the front are smoothed
_MOST_ROWS_KEPT = 20_000  # configurations looked at and not started are forgotten beyond this

State: TypeAlias = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be chosen; `benchmarks/LOG.md` says how the defaults were.

    Args:
        num_initial: trials spread over the space before the model chooses.
        min_rows: reports before the model is asked; until then successive halving decides.
        patience: a trial is stopped where a new candidate's index is this many times its own; above 1, since the best
            of hundreds of uncertain candidates is overestimated.
        num_random: random candidates that a decision looks at, beside the neighbours of good ones; a quarter is new,
            the others were looked at before, so that what is known of them need not be computed again.
        num_good: finished trials whose neighbours are looked at, the latest ones.
        num_polished: candidates whose own neighbours are looked at in a second round.
        most_rows, most_rows_fitted: reports that the model holds, and fits its hyper-parameters to, at most.
        refit_growth: the hyper-parameters are fitted again each time the reports have grown by this factor.
    """

    num_initial: int = 4
    min_rows: int = 3
    patience: float = 1.4
    num_random: int = 500
    num_good: int = 8
    num_polished: int = 5
    most_rows: int = 400
    most_rows_fitted: int = 160
    refit_growth: float = 1.2


@dataclass(slots=True)
class _Run:
    """One trial as far as it has come: its place in the catalogue and the losses at each rung reported."""

    place: int
    state: State = "running"
    readings: list[tuple[int, Array]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Outlook:
    """The model and the front at one moment; `attained` only where the closed form applies."""

    posterior: Posterior
    front: Array
    attained: Attained | None


class GreyBox:
    """A search that knows its problem: what is known before training is not modelled but taken as known.

    The index of a candidate is its expected hypervolume improvement per cost, of a running trial per remaining cost;
    a trial is stopped where a new candidate has a clearly higher index. In the front that is to be improved, running
    trials count as their predicted means and finished ones as what the model makes of their noisy losses. The same seed
    and order of calls give the same answers; the object can be pickled between any two calls.
    """

    def __init__(self, problem: Problem, *, seed: int = 0, settings: Settings | None = None) -> None:
        self.problem, self.settings = problem, settings or Settings()
        self._space = Coordinates(problem.knobs)
        self._catalogue = Catalogue(problem, self._space)
        self._menu = None if problem.menu is None else np.array([self._space.encode(c) for c in problem.menu])
        self._rng = np.random.default_rng(seed)
        self._surrogate = Surrogate(
            problem.learned,
            most_rows=self.settings.most_rows,
            most_rows_fitted=self.settings.most_rows_fitted,
            growth=self.settings.refit_growth,
            seed=seed,
        )
        self._halving = SuccessiveHalving(problem.reference)
        self._waiting = deque(problem.warm_start)
        self._runs: list[_Run] = []
        self._outlook_now: _Outlook | None = None
        self._best_now: tuple[int, float] | None = None

    def ask(self) -> Candidate | None:
        """Return what to train next, or None where nothing is left that may be proposed."""
        while self._waiting:
            place = int(self._catalogue.look(self._space.encode(self._waiting.popleft())[None])[0])
            if len(self._allowed(np.array([place]))):
                return self._start(place, math.nan)
        if len(self._runs) < self.settings.num_initial or self._outlook() is None:
            place_or_none = self._spread()
            return None if place_or_none is None else self._start(place_or_none, math.nan)
        best = self._best()
        return None if best is None else self._start(*best)

    def report(self, number: int, fidelity: float, losses: Mapping[str, float]) -> bool:
        """Enter the losses of a running trial at a rung; True where it is to go on.

        Args:
            number: of the candidate.
            fidelity: one of the problem's rungs.
            losses: of the learned objectives, by name.

        Raises:
            ValueError: no such rung, or a loss is not finite.
        """
        run, rung = self._runs[number], self.problem.rungs.at(fidelity)
        self._observe(run, rung, losses)
        known = self._catalogue.known[run.place]
        ranks_high = self._halving.report(rung, np.append(known, run.readings[-1][1]))
        if rung == self.problem.rungs.last:
            return True
        run.state = "stopped"  # what is gained by going on is measured against a front without this trial
        self._forget()
        if self._outlook() is not None:
            ranks_high = self._goes_on(run, rung)
        if ranks_high:
            run.state = "running"
            self._forget()
        return ranks_high

    def tell(self, number: int, losses: Mapping[str, float] | None) -> None:
        """Enter the final losses of a trial, or None where it failed. Raises `ValueError` as `report` does."""
        run = self._runs[number]
        run.state = "failed"
        if losses is not None:
            self._observe(run, self.problem.rungs.last, losses)
            run.state = "finished"
        self._forget()

    def learn(self, config: Config, fidelity: float, losses: Mapping[str, float], *, attained: bool) -> None:
        """Enter a point that this search did not ask for, such as one of an earlier sweep.

        Args:
            config: its knobs.
            fidelity: the rung it was measured at.
            losses: of the learned objectives, by name.
            attained: True where its artifact exists, so that it is part of the front and need not be trained again.
        """
        place = int(self._catalogue.look(self._space.encode(config)[None])[0])
        run = _Run(place, "finished" if attained else "stopped")
        self._observe(run, self.problem.rungs.at(fidelity), losses)
        self._runs.append(run)
        self._catalogue.taken[place] |= attained

    def _start(self, place: int, index: float) -> Candidate:
        self._runs.append(_Run(place))
        self._catalogue.taken[place] = True
        self._forget()
        config, prefix = self._space.decode(self._catalogue.codes[place]), self._catalogue.prefixes[place]
        if len(self._catalogue.codes) > _MOST_ROWS_KEPT:
            self._tidy()
        return Candidate(len(self._runs) - 1, config, prefix, index)

    def _tidy(self) -> None:
        """Keep of the catalogue only the rows of trials."""
        places = np.array([run.place for run in self._runs], dtype=np.intp)
        keep, renumbered = np.unique(places, return_inverse=True)
        self._catalogue.forget(keep)
        for run, place in zip(self._runs, renumbered.tolist(), strict=True):
            run.place = place

    def _observe(self, run: _Run, rung: int, losses: Mapping[str, float]) -> None:
        values = np.array([losses[objective.name] for objective in self.problem.learned], dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"losses must be finite, got {dict(losses)}; tell a trial that diverged as failed")
        prefix = self._catalogue.prefixes[run.place]
        if prefix is not None:
            self._catalogue.paid.add(prefix.uid)
        if not run.readings or run.readings[-1][0] < rung:
            run.readings.append((rung, values))
        self._forget()

    def _forget(self) -> None:
        """Drop what was computed, since something has changed."""
        self._outlook_now = self._best_now = None

    def _goes_on(self, run: _Run, rung: int) -> bool:
        remaining = self.problem.rungs.costs[-1] - self.problem.rungs.costs[rung]
        best = self._best()
        index = float(self._gain(np.array([run.place]))[0]) / remaining
        return best is None or index * self.settings.patience >= best[1]

    def _spread(self) -> int | None:
        """Return the candidate farthest from all trials so far, the most central one at first."""
        places = self._allowed(self._catalogue.look(self._draw(256)))
        inside = places[(self._catalogue.known[places] < self.problem.reference[: len(self.problem.known)]).all(axis=1)]
        places = inside if len(inside) else places
        if not len(places):
            return None
        inputs = self._catalogue.inputs[places]
        if not self._runs:
            return int(places[np.argmin(((inputs - np.median(inputs, axis=0)) ** 2).sum(axis=1))])
        others = self._catalogue.inputs[[run.place for run in self._runs]]
        gaps = ((inputs[:, None, :] - others[None, :, :]) ** 2).sum(axis=2).min(axis=1)
        return int(places[np.argmax(gaps)])

    def _best(self) -> tuple[int, float] | None:
        """Return place and index of the new candidate with the highest index."""
        if self._best_now is None:
            codes = np.vstack([self._draw(self.settings.num_random // 4), self._around(self._good())])
            places = self._catalogue.look(codes)
            again = self._rng.integers(len(self._catalogue.codes), size=self.settings.num_random * 3 // 4)
            self._best_now = self._argmax(np.append(places, again))
            if self._best_now and self.settings.num_polished:
                better = self._argmax(self._catalogue.look(self._around(self._runners_up)))
                self._best_now = max(self._best_now, better or self._best_now, key=lambda pair: pair[1])
        return self._best_now

    def _argmax(self, places: Places) -> tuple[int, float] | None:
        places = self._allowed(places)
        if not len(places):
            return None
        index = self._gain(places) / (self.problem.rungs.costs[-1] + self._catalogue.unpaid(places))
        order = np.argsort(-index, kind="stable")
        self._runners_up = places[order[: self.settings.num_polished]]
        return int(places[order[0]]), float(index[order[0]])

    def _allowed(self, places: Places) -> Places:
        """Return, each once, the places that were not started and keep the known limits."""
        places = np.unique(places)
        limits = np.array([objective.limit for objective in self.problem.known])
        keep = ~self._catalogue.taken[places] & (self._catalogue.known[places] <= limits).all(axis=1)
        return places[keep]

    def _draw(self, count: int) -> Array:
        if self._menu is None:
            return self._space.draw(count, self._rng)
        return self._menu[self._rng.permutation(len(self._menu))[: 4 * count]]

    def _around(self, places: Places) -> Array:
        if self._menu is not None or not len(places):
            return np.empty((0, len(self.problem.knobs)))
        return np.vstack([self._space.neighbours(self._catalogue.codes[place], self._rng) for place in places])

    def _good(self) -> Places:
        finished = [run.place for run in self._runs if run.state == "finished"]
        return np.array(finished[-self.settings.num_good :], dtype=np.intp)

    def _gain(self, places: Places) -> Array:
        """Return the expected hypervolume improvement, [n]; until a trial keeps the limits, the chance to keep them."""
        outlook, problem = self._outlook(), self.problem
        assert outlook is not None
        known, inputs = self._catalogue.known[places], self._catalogue.inputs[places]
        survival = self._survival(inputs)
        limits = np.array([objective.limit for objective in problem.learned])
        if np.isfinite(limits).any() and not (outlook.front[:, len(problem.known) :] <= limits).all(axis=1).any():
            return survival * outlook.posterior.within_limits(inputs)
        mean, deviation = outlook.posterior.predict(inputs)
        scales = tuple(objective.scale for objective in problem.learned)
        if outlook.attained is not None:
            return survival * improvement_of_one(outlook.attained, known, mean[:, 0], deviation[:, 0], scales[0])
        return survival * improvement_of_many(outlook.front, problem.reference, known, mean, deviation, scales=scales)

    def _survival(self, inputs: Array) -> Array:
        """Return the chance not to fail, [n]: the share of the trials near by that did not."""
        ended = [run for run in self._runs if run.state != "running"]
        if all(run.state != "failed" for run in ended):
            return np.ones(len(inputs))
        others = self._catalogue.inputs[[run.place for run in ended]]
        distances = ((inputs[:, None, :] - others[None, :, :]) ** 2).sum(axis=2)
        near = np.exp(-distances / (2.0 * 0.3**2))
        lived = np.array([run.state != "failed" for run in ended])
        return np.asarray((0.3 + near[:, lived].sum(axis=1)) / (0.3 + near.sum(axis=1)))

    def _outlook(self) -> _Outlook | None:
        """Return the model of this moment, or None where data is scarce or the model cannot be fitted."""
        if self._outlook_now is None and sum(len(run.readings) for run in self._runs) >= self.settings.min_rows:
            try:
                self._outlook_now = self._look_out()
            except np.linalg.LinAlgError:
                return None
        return self._outlook_now

    def _near_front(self) -> list[int]:
        """Return the places of the finished trials; of many, only of the two best layers, by their losses as told."""
        finished = [run for run in self._runs if run.state == "finished"]
        places = np.array([run.place for run in finished], dtype=np.intp)
        if len(places) > _MANY:
            losses = np.hstack([self._catalogue.known[places], np.array([run.readings[-1][1] for run in finished])])
            first = non_dominated(losses)
            first[~first] = non_dominated(losses[~first])
            places = places[first]
        return [int(place) for place in places]

    def _look_out(self) -> _Outlook:
        catalogue, problem = self._catalogue, self.problem
        seen = [(run.place, rung, losses) for run in self._runs for rung, losses in run.readings]
        u = np.array([1.0 - problem.rungs.position(rung) for _, rung, _ in seen])
        rows = Rows(catalogue.inputs[[place for place, _, _ in seen]], u, np.array([losses for _, _, losses in seen]))
        running = [run.place for run in self._runs if run.state == "running"]
        finished = self._near_front()
        posterior = self._surrogate.posterior(rows, catalogue.inputs[running])
        reached = posterior.medians(catalogue.inputs[finished])
        losses = np.vstack([reached, posterior.believed])
        known = catalogue.known[finished + running]
        count, reference = len(problem.known), problem.reference
        attained = None
        if exact(count, len(problem.learned)):
            attained = Attained.of(known, losses[:, 0], known_reference=reference[:count], reference=reference[-1])
        return _Outlook(posterior, np.hstack([known, losses]), attained)
