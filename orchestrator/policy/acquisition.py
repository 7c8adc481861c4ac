"""Choose the next configuration: draw candidates, score them by the forecast, and look up their known objectives."""

from dataclasses import dataclass, field

import numpy as np

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.candidate_table import CandidateTable, TableRows
from paretta.orchestrator.policy.encoding import Configuration, Coordinates
from paretta.orchestrator.policy.forecast import Forecast
from paretta.orchestrator.policy.problem import SearchProblem
from paretta.orchestrator.policy.run_history import RunHistory
from paretta.orchestrator.policy.settings import GreyBoxSettings
from paretta.search_spaces.objectives.pareto import non_dominated

_NUM_SPREAD = 256  # random candidates from which an initial trial is chosen, the one farthest from all other trials


@dataclass(frozen=True, slots=True)
class Scored:
    """A row of the candidate table, and its expected hypervolume improvement per cost."""

    row: int
    index: float


@dataclass(slots=True)
class Acquisition:
    """Proposes configurations of a search that keep the known limits and were never started.

    Args:
        problem: the search problem.
        settings: how many candidates are considered.
        space: draws configurations and their neighbours.
        table: all configurations considered so far.
        history: the trials so far.
        rng: the source of all random draws.
    """

    problem: SearchProblem
    settings: GreyBoxSettings
    space: Coordinates
    table: CandidateTable
    history: RunHistory
    rng: np.random.Generator
    _menu: Array | None = field(init=False)
    _finalists: TableRows = field(init=False)

    def __post_init__(self) -> None:
        """Encode the menu, if only its configurations may be proposed."""
        menu = self.problem.menu
        self._menu = None if menu is None else np.array([self.space.encode(config) for config in menu])
        self._finalists = np.empty(0, dtype=np.intp)

    def row_of(self, config: Configuration) -> int:
        """Return the table row of a configuration, adding it if it is new."""
        return int(self.table.look(self.space.encode(config)[None])[0])

    def spread(self) -> int | None:
        """Return the candidate farthest from all trials so far, at first the most central one; None if none is left."""
        rows = self._allowed(self._entered(self._draw(_NUM_SPREAD)))
        inside = rows[(self.table.known[rows] < self.problem.reference[: len(self.problem.known)]).all(axis=1)]
        rows = inside if len(inside) else rows
        if not len(rows):
            return None
        if not len(self.history):
            inputs = self.table.inputs[rows]
            return int(rows[np.argmin(((inputs - np.median(inputs, axis=0)) ** 2).sum(axis=1))])
        return int(rows[np.argmax(self._gaps(rows))])

    def further(self) -> int | None:
        """Return one more candidate for the first wave of many workers, or None if none is left.

        Trials that are as far apart as possible are at the corners of the space, where few are good. So in turn a
        candidate is the farthest of a few, or the best of more by the hypervolume that its known losses leave to win,
        times its distance from all trials.
        """
        rows = self._allowed(self._entered(self._draw(self.settings.num_promising)))
        if not len(rows):
            return None
        if len(self.history) % 2 == 0:
            rows = self.rng.choice(rows, min(self.settings.num_far, len(rows)), replace=False)
            return int(rows[np.argmax(self._gaps(rows))])
        room = self.problem.reference[: len(self.problem.known)] - self.table.known[rows]
        return int(rows[np.argmax(np.maximum(room, 0.0).prod(axis=1) * np.sqrt(self._gaps(rows)))])

    def best(self, forecast: Forecast) -> Scored | None:
        """Return the candidate of highest index among random ones, the front's neighbours, and their neighbours."""
        codes = np.vstack([self._draw(self.settings.num_random // 4), self._around(self._good())])
        rows = self._entered(codes)
        again = self.rng.integers(len(self.table.codes), size=self.settings.num_random * 3 // 4)
        if self.problem.foresee is not None:
            self.table.refresh(again)
        best = self._highest(np.append(rows, again), forecast)
        if best and self.settings.num_polished:
            finalists = self._finalists
            better = self._highest(self._entered(self._around(finalists)), forecast)
            best = max(best, better or best, key=lambda scored: scored.index)
            self._finalists = np.append(finalists, self._finalists) if better else finalists
        return best

    def looked_up(self, best: Scored | None, forecast: Forecast) -> Scored | None:
        """Look up the known objectives of the leading finalists that were only estimated, and return the best one."""
        for _ in range(self.settings.most_looks):
            if best is None or self.table.sure[best.row]:
                break
            self._look_up(best.row)
            best = self._highest(self._finalists, forecast)
        return best

    def may_start(self, row: int) -> bool:
        """Look up the candidate's known objectives; False if it violates a known limit or cannot be carried out."""
        if not self.table.sure[row]:
            self._look_up(row)
        return len(self._allowed(np.array([row]))) > 0

    def gain(self, row: int, forecast: Forecast) -> float:
        """Return the expected hypervolume improvement of the configuration at `row`."""
        return float(self._gain(np.array([row]), forecast)[0])

    def _gain(self, rows: TableRows, forecast: Forecast) -> Array:
        expected = self.table.expected(rows) if forecast.posterior.weights.any() else None
        return forecast.gain(self.table.known[rows], self.table.inputs[rows], expected)

    def _gaps(self, rows: TableRows) -> Array:
        """Return the squared distances, [n], of the rows' model inputs to the nearest trial."""
        others = self.table.inputs[[run.row for run in self.history.runs]]
        gaps = ((self.table.inputs[rows][:, None, :] - others[None, :, :]) ** 2).sum(axis=2)
        return np.asarray(gaps.min(axis=1))

    def _look_up(self, row: int) -> None:
        assert self.problem.foresee is not None
        known = self.problem.foresee(self.space.decode(self.table.codes[row]))
        if known is None:
            self.table.taken[row] = True
        self.table.correct(row, self.table.known[row] if known is None else known)

    def _entered(self, codes: Array) -> TableRows:
        rows = self.table.look(codes)
        if self.problem.foresee is not None:
            self.table.refresh(rows)
        return rows

    def _highest(self, rows: TableRows, forecast: Forecast) -> Scored | None:
        rows = self._allowed(rows)
        if not len(rows):
            return None
        gain = self._gain(rows, forecast)
        index = gain / (self.problem.rungs.costs[-1] + self.table.unpaid(rows))
        order = np.argsort(-index, kind="stable")
        self._finalists = rows[order[: self.settings.num_polished]]
        return Scored(int(rows[order[0]]), float(index[order[0]]))

    def _allowed(self, rows: TableRows) -> TableRows:
        """Return the distinct rows that were not started and keep the known limits."""
        rows = np.unique(rows)
        limits = np.array([objective.limit for objective in self.problem.known])
        return rows[~self.table.taken[rows] & (self.table.known[rows] <= limits).all(axis=1)]

    def _draw(self, count: int) -> Array:
        if self._menu is None:
            return self.space.draw(count, self.rng)
        return self._menu[self.rng.permutation(len(self._menu))[: 4 * count]]

    def _around(self, rows: TableRows) -> Array:
        if self._menu is not None or not len(rows):
            return np.empty((0, len(self.problem.knobs)))
        return np.vstack([self.space.neighbours(self.table.codes[row], self.rng) for row in rows])

    def _good(self) -> TableRows:
        rows, losses = self.history.finished()
        return rows[non_dominated(losses)][-self.settings.num_good :]
