"""The search policy: train the candidate with the largest expected hypervolume improvement per remaining cost."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.candidate_table import CandidateTable, Places
from paretta.orchestrator.policy.encoding import Configuration, Coordinates
from paretta.orchestrator.policy.expected_improvement import Attained, exact, improvement_of_many, improvement_of_one
from paretta.orchestrator.policy.gaussian_process import GaussianProcess, Hyperparameters
from paretta.orchestrator.policy.problem import Candidate, SearchProblem
from paretta.orchestrator.policy.successive_halving import SuccessiveHalving
from paretta.orchestrator.policy.surrogate import Posterior, Surrogate, SurrogateRows
from paretta.search_spaces.objectives.pareto import non_dominated

_MANY = 200  # finished trials beyond which only those near the front are smoothed
_MOST_ROWS_KEPT = 20_000  # configurations looked at and not started are forgotten beyond this
_LEAST_SURVIVAL = 0.01  # no configuration is thought to fail for sure

RunState: TypeAlias = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class GreyBoxSettings:
    """What may be chosen; `benchmarks/LOG.md` says how the defaults were.

    Args:
        num_initial: trials spread over the space before the model chooses.
        min_rows: reports before the model is asked; until then successive halving decides.
        patience: a trial is stopped where a new candidate's index is this many times its own; above 1, since the best
            of hundreds of uncertain candidates is overestimated.
        num_random: random candidates that a decision looks at, beside the neighbours of good ones; a quarter is new,
            the others were looked at before, so that what is known of them need not be computed again.
        num_good: trials of the front whose neighbours are looked at, the latest ones.
        num_polished: candidates whose own neighbours are looked at in a second round.
        most_looks: candidates that a decision looks at to know what it has only estimated.
        most_rows, most_rows_fitted: reports that the model holds, and fits its hyper-parameters to, at most.
        refit_growth: the hyper-parameters are fitted again each time the reports have grown by this factor.
    """

    num_initial: int = 4
    min_rows: int = 3
    patience: float = 1.4
    num_random: int = 500
    num_good: int = 8
    num_polished: int = 5
    most_looks: int = 4
    most_rows: int = 400
    most_rows_fitted: int = 160
    refit_growth: float = 1.03


@dataclass(slots=True)
class _Run:
    """One trial as far as it has come: its place in the catalogue and the losses at each rung reported."""

    place: int
    state: RunState = "running"
    ranks_high: bool = True
    readings: list[tuple[int, Array]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Outlook:
    """The model and the front at one moment; `attained` only where the closed form applies."""

    posterior: Posterior
    front: Array
    attained: Attained | None
    lived: GaussianProcess | None

    def survival(self, inputs: Array) -> Array:
        """Return the chance not to fail, [n], at model inputs [n, d]."""
        if self.lived is None:
            return np.ones(len(inputs))
        return np.asarray(self.lived.predict(inputs)[0].clip(_LEAST_SURVIVAL, 1.0))


class GreyBox:
    """A search that knows its problem: what is known before training is not modelled but taken as known.

    The index of a candidate is its expected hypervolume improvement per cost, of a running trial per remaining cost;
    a trial is stopped where a new candidate has a clearly higher index. In the front that is to be improved, running
    trials count as their predicted means and finished ones as what the model makes of their noisy losses. The same seed
    and order of calls give the same answers; the object can be pickled between any two calls.
    """

    def __init__(self, problem: SearchProblem, *, seed: int = 0, settings: GreyBoxSettings | None = None) -> None:
        self.problem, self.settings = problem, settings or GreyBoxSettings()
        self._space = Coordinates(problem.knobs)
        self._catalogue = CandidateTable(problem, self._space)
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
        self._others: list[Array] = []
        self._finalists: Places = np.empty(0, dtype=np.intp)
        self._outlook_now: _Outlook | None = None
        self._best_now: tuple[int, float] | None = None

    def ask(self) -> Candidate | None:
        """Return what to train next, or None where nothing is left that may be proposed."""
        while self._waiting:
            place = self._place(self._waiting.popleft())
            if self._may_start(place):
                return self._start(place, math.nan)
        while (choice := self._choice()) is not None:
            if self._may_start(choice[0]):
                return self._start(*choice)
            self._forget()
        return None

    def start(self, config: Configuration) -> int:
        """Count a configuration that someone else chose as a running trial, and return its number."""
        return self._start(self._place(config), math.nan).number

    def report(self, number: int, fidelity: float, losses: Mapping[str, float]) -> bool:
        """Enter the losses of a running trial at a rung; True where it is to go on.

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
        """Enter the losses of a running trial at a rung and decide nothing. Arguments and errors as in `report`."""
        run, rung = self._runs[number], self.problem.rungs.at(fidelity)
        self._observe(run, rung, losses)
        known = self._catalogue.known[run.place]
        run.ranks_high = self._halving.report(rung, np.append(known, run.readings[-1][1]))

    def goes_on(self, number: int) -> bool:
        """Decide on a running trial by its last report; it counts as stopped where the answer is False.

        Until a trial has finished, the oldest one that runs goes on: before that all that is new looks better than what
        is known, and every trial would be stopped in its turn.
        """
        run = self._runs[number]
        if not run.readings or run.readings[-1][0] == self.problem.rungs.last:
            return True
        if self._is_the_first_to_finish(run):
            return True
        run.state = "stopped"  # what is gained by going on is measured against a front without this trial
        self._forget()
        goes_on = run.ranks_high if self._outlook() is None else self._is_worth(run, run.readings[-1][0])
        if goes_on:
            run.state = "running"
            self._forget()
        return goes_on

    def stop(self, number: int) -> None:
        """Count a running trial as stopped by someone else: what it reported stays known."""
        self._runs[number].state = "stopped"
        self._forget()

    def tell(self, number: int, losses: Mapping[str, float] | None, known: Array | None = None) -> None:
        """Enter how a trial ended.

        Args:
            number: of the candidate.
            losses: the final ones of the learned objectives, by name; None where it failed.
            known: [known], the known objectives as they were measured, where that was done.

        Raises:
            ValueError: a loss is not finite.
        """
        run = self._runs[number]
        run.state = "failed"
        if losses is not None:
            if known is not None:
                self._catalogue.correct(run.place, known)
            self._observe(run, self.problem.rungs.last, losses)
            run.state = "finished"
        self._forget()

    def attain(self, known: Array, losses: Array) -> None:
        """Enter a point of the front, [known] and [learned], that no configuration of this space leads to."""
        self._others.append(np.append(known, losses))
        self._forget()

    def learn(
        self,
        config: Configuration,
        fidelity: float,
        losses: Mapping[str, float],
        *,
        attained: bool,
        known: Array | None = None,
    ) -> None:
        """Enter a point that this search did not ask for, such as one of an earlier sweep.

        Args:
            config: its knobs.
            fidelity: the rung it was measured at.
            losses: of the learned objectives, by name.
            attained: True where its artifact exists, so that it is part of the front and need not be trained again.
            known: [known], the known objectives, where they were measured.
        """
        place = self._place(config)
        if known is not None:
            self._catalogue.correct(place, known)
        run = _Run(place, "finished" if attained else "stopped")
        self._observe(run, self.problem.rungs.at(fidelity), losses)
        self._runs.append(run)
        self._catalogue.taken[place] |= attained

    def _place(self, config: Configuration) -> int:
        return int(self._catalogue.look(self._space.encode(config)[None])[0])

    def _choice(self) -> tuple[int, float] | None:
        """Return place and index of what to start next; of an initial trial the index is NaN."""
        if len(self._runs) < self.settings.num_initial or self._outlook() is None:
            place = self._spread()
            return None if place is None else (place, math.nan)
        best = self._best()
        for _ in range(self.settings.most_looks):
            if best is None or self._catalogue.sure[best[0]]:
                break
            self._look_at(best[0])
            best = self._best_now = self._argmax(self._finalists)
        return best

    def _may_start(self, place: int) -> bool:
        """Look at the candidate unless that was done; False where it keeps no known limit or cannot be carried out."""
        if not self._catalogue.sure[place]:
            self._look_at(place)
        return len(self._allowed(np.array([place]))) > 0

    def _look_at(self, place: int) -> None:
        assert self.problem.foresee is not None
        known = self.problem.foresee(self._space.decode(self._catalogue.codes[place]))
        if known is None:
            self._catalogue.taken[place] = True
        self._catalogue.correct(place, self._catalogue.known[place] if known is None else known)

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

    def _is_the_first_to_finish(self, run: _Run) -> bool:
        alive = [other for other in self._runs if other.state == "running"]
        return alive[0] is run and all(other.state != "finished" for other in self._runs)

    def _is_worth(self, run: _Run, rung: int) -> bool:
        remaining = self.problem.rungs.costs[-1] - self.problem.rungs.costs[rung]
        best = self._best()
        index = float(self._gain(np.array([run.place]))[0]) / remaining
        return best is None or index * self.settings.patience >= best[1]

    def _spread(self) -> int | None:
        """Return the candidate farthest from all trials so far, the most central one at first."""
        places = self._looked_up(self._draw(256))
        places = self._allowed(places)
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
            places = self._looked_up(codes)
            again = self._rng.integers(len(self._catalogue.codes), size=self.settings.num_random * 3 // 4)
            if self.problem.foresee is not None:
                self._catalogue.refresh(again)
            self._best_now = self._argmax(np.append(places, again))
            if self._best_now and self.settings.num_polished:
                finalists = self._finalists
                better = self._argmax(self._looked_up(self._around(finalists)))
                self._best_now = max(self._best_now, better or self._best_now, key=lambda pair: pair[1])
                self._finalists = np.append(finalists, self._finalists) if better else finalists
        return self._best_now

    def _looked_up(self, codes: Array) -> Places:
        places = self._catalogue.look(codes)
        if self.problem.foresee is not None:
            self._catalogue.refresh(places)
        return places

    def _argmax(self, places: Places) -> tuple[int, float] | None:
        places = self._allowed(places)
        if not len(places):
            return None
        index = self._gain(places) / (self.problem.rungs.costs[-1] + self._catalogue.unpaid(places))
        order = np.argsort(-index, kind="stable")
        self._finalists = places[order[: self.settings.num_polished]]
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
        places, losses = self._finished()
        return places[non_dominated(losses)][-self.settings.num_good :]

    def _gain(self, places: Places) -> Array:
        """Return the expected hypervolume improvement, [n]; until a trial keeps the limits, the chance to keep them."""
        outlook, problem = self._outlook(), self.problem
        assert outlook is not None
        known, inputs = self._catalogue.known[places], self._catalogue.inputs[places]
        survival = outlook.survival(inputs)
        limits = np.array([objective.limit for objective in problem.learned])
        if np.isfinite(limits).any() and not (outlook.front[:, len(problem.known) :] <= limits).all(axis=1).any():
            return survival * outlook.posterior.within_limits(inputs)
        mean, deviation = outlook.posterior.predict(inputs)
        scales = tuple(objective.scale for objective in problem.learned)
        if outlook.attained is not None:
            return survival * improvement_of_one(outlook.attained, known, mean[:, 0], deviation[:, 0], scales[0])
        return survival * improvement_of_many(outlook.front, problem.reference, known, mean, deviation, scales=scales)

    def _survival(self) -> GaussianProcess | None:
        """Regress on the latest trials that ended, 1 where they lived and 0 where they failed; None if all lived."""
        ended = [run for run in self._runs if run.state != "running"][-self.settings.most_rows :]
        lived = np.array([float(run.state != "failed") for run in ended])
        if lived.all():
            return None
        x = self._catalogue.inputs[[run.place for run in ended]]
        return GaussianProcess.of(x, np.zeros(len(x)), lived, Hyperparameters.typical(x.shape[1]))

    def _outlook(self) -> _Outlook | None:
        """Return the model of this moment, or None where data is scarce or the model cannot be fitted."""
        if self._outlook_now is None and sum(len(run.readings) for run in self._runs) >= self.settings.min_rows:
            try:
                self._outlook_now = self._look_out()
            except np.linalg.LinAlgError:
                return None
        return self._outlook_now

    def _finished(self) -> tuple[Places, Array]:
        """Return places [n] of the finished trials, the latest last, and losses [n, known + learned] as told."""
        finished = [run for run in self._runs if run.state == "finished"]
        places = np.array([run.place for run in finished], dtype=np.intp)
        told = np.array([run.readings[-1][1] for run in finished]).reshape(len(finished), len(self.problem.learned))
        return places, np.hstack([self._catalogue.known[places], told])

    def _near_front(self) -> list[int]:
        """Return the places of the finished trials; of many, only of the two best layers, by their losses as told."""
        places, losses = self._finished()
        if len(places) > _MANY:
            first = non_dominated(losses)
            first[~first] = non_dominated(losses[~first])
            places = places[first]
        return [int(place) for place in places]

    def _look_out(self) -> _Outlook:
        catalogue, problem = self._catalogue, self.problem
        seen = [(run.place, rung, losses) for run in self._runs for rung, losses in run.readings]
        u = np.array([1.0 - problem.rungs.position(rung) for _, rung, _ in seen])
        rows = SurrogateRows(
            catalogue.inputs[[place for place, _, _ in seen]], u, np.array([losses for _, _, losses in seen])
        )
        running = [run.place for run in self._runs if run.state == "running"]
        finished = self._near_front()
        posterior = self._surrogate.posterior(rows, catalogue.inputs[running])
        reached = posterior.medians(catalogue.inputs[finished])
        others = np.array(self._others).reshape(-1, len(problem.reference))
        losses = np.vstack([reached, posterior.believed, others[:, len(problem.known) :]])
        known = np.vstack([catalogue.known[finished + running], others[:, : len(problem.known)]])
        count, reference = len(problem.known), problem.reference
        attained = None
        if exact(count, len(problem.learned)):
            attained = Attained.of(known, losses[:, 0], known_reference=reference[:count], reference=reference[-1])
        return _Outlook(posterior, np.hstack([known, losses]), attained, self._survival())
