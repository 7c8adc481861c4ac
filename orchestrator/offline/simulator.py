"""Simulate a search over a table of finished results, with one worker or several asynchronous ones."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.encoding import Configuration
from paretta.orchestrator.policy.problem import Candidate, Known, Learned, Rungs, SearchProblem, SharedPrefix
from paretta.search_spaces.objectives.pareto import hypervolume, non_dominated
from paretta.search_spaces.space.holes import Label
from paretta.search_spaces.space.space import Knob


class Searcher(Protocol):
    """The interface of a search in `simulate`; `GreyBox` implements it."""

    def ask(self) -> Candidate | None:
        """Return the next candidate, or None if nothing is left."""

    def report(self, number: int, fidelity: float, losses: Mapping[str, float]) -> bool:
        """Record a running trial's losses at a rung; return True if it should go on."""

    def tell(self, number: int, losses: Mapping[str, float] | None) -> None:
        """Record a trial's final losses, or None if it failed."""


@dataclass(frozen=True, slots=True)
class Table:
    """Fully trained configurations and their results.

    Args:
        name: shown in reports.
        knobs: the search variables; `configs`: one per row.
        known_objectives: with their reference points; `known`: [n, k], their losses.
        learned: with their reference points on validation; `validation`: [n, rungs, l]; `test`: [n, l].
        test_reference: [k + l], the reference point that the test losses are scored with.
        rungs: where a trial reports.
        prefixes: per row the uid of its shared work; `prefix_cost`: what that costs the first trial that needs it.
    """

    name: str
    knobs: tuple[Knob, ...]
    configs: tuple[Configuration, ...]
    known_objectives: tuple[Known, ...]
    known: Array
    learned: tuple[Learned, ...]
    validation: Array
    test: Array
    test_reference: Array
    rungs: Rungs = field(default_factory=Rungs)
    prefixes: tuple[str, ...] | None = None
    prefix_cost: float = 0.0
    _row_of: dict[tuple[Label, ...], int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Index the rows."""
        object.__setattr__(self, "_row_of", {self._key(config): row for row, config in enumerate(self.configs)})

    def row(self, config: Configuration) -> int:
        """Return the row of a configuration. Raises `KeyError` if the table has none."""
        return self._row_of[self._key(config)]

    def known_losses(self, configs: Sequence[Configuration]) -> Array:
        """Return the known losses of configurations, [n, k]."""
        return self.known[[self.row(config) for config in configs]]

    def prefix(self, config: Configuration) -> SharedPrefix:
        """Return the work that a configuration shares with others."""
        assert self.prefixes is not None
        return SharedPrefix(self.prefixes[self.row(config)], self.prefix_cost)

    def problem(self) -> SearchProblem:
        """Return the table as a search problem."""
        return SearchProblem(
            self.knobs,
            self.known_objectives,
            self.learned,
            self.rungs,
            known_losses=self.known_losses if self.known_objectives else None,
            prefix=self.prefix if self.prefixes else None,
        )

    @property
    def full_cost(self) -> float:
        """The cost of a trial that shares nothing and is never stopped; the unit of budgets."""
        return self.rungs.costs[-1] + self.prefix_cost

    @property
    def best(self) -> float:
        """The hypervolume of all rows' test losses, an upper bound for any search."""
        return hypervolume(np.hstack([self.known, self.test]), self.test_reference)

    def score(self, rows: Sequence[int]) -> float:
        """Return the test hypervolume of the rows that are non-dominated on validation."""
        chosen = np.unique(np.asarray(rows, dtype=np.intp))
        final = np.hstack([self.known[chosen], self.validation[chosen, -1]])
        tested = np.hstack([self.known[chosen], self.test[chosen]])
        return hypervolume(tested[non_dominated(final)], self.test_reference)

    def _key(self, config: Configuration) -> tuple[Label, ...]:
        return tuple(config.get(knob.name) for knob in self.knobs)


@dataclass(frozen=True, slots=True)
class Simulation:
    """The trials that a simulated search finished, and when.

    Args:
        spent: [f], compute by the time each full trial was finished, in `Table.full_cost`.
        rows: [f], the rows of the table.
        num_started: trials started, stopped ones included.
    """

    spent: Array
    rows: NDArray[np.intp]
    num_started: int

    def shares(self, table: Table, budgets: Array) -> Array:
        """Return the share of the best possible hypervolume reached with each of `budgets` [b]."""
        counts = np.searchsorted(self.spent, budgets, side="right")
        scores = {count: table.score(self.rows[:count].tolist()) for count in np.unique(counts).tolist() if count}
        return np.array([scores.get(count, 0.0) for count in counts.tolist()]) / table.best


def simulate(searcher: Searcher, table: Table, budget: float, *, workers: int = 1) -> Simulation:
    """Run a search over a table until `budget` full trials are spent.

    All workers are always busy, so the compute spent is their number multiplied by the time. A prefix is shared once it
    has been computed; a trial that starts before that computes it again. A search that uses no prefixes pays for the
    prefix of every trial. A row that is asked for again costs nothing: the search is told the known losses at once.
    """
    clock = _Clock(searcher, table, workers)
    for _ in range(workers):
        clock.start()
    while clock.events and clock.events[0].time <= budget * table.full_cost / workers + 1e-9:
        clock.advance()
    spent = [time * workers / table.full_cost for time, _ in clock.finished]
    rows = [row for _, row in clock.finished]
    return Simulation(np.array(spent), np.array(rows, dtype=np.intp), clock.num_started)


@dataclass(frozen=True, slots=True, order=True)
class _Event:
    """A trial reaches a rung; events at equal times are ordered by when they were scheduled."""

    time: float
    order: int
    number: int
    row: int
    rung: int


@dataclass(slots=True)
class _Clock:
    """The state of the simulated workers: running and finished trials."""

    searcher: Searcher
    table: Table
    workers: int
    now: float = 0.0
    num_started: int = 0
    events: list[_Event] = field(default_factory=list)
    finished: list[tuple[float, int]] = field(default_factory=list)
    _paid: set[str] = field(default_factory=set)
    _scheduled: int = 0

    def start(self) -> None:
        """Ask for a trial and start it on a free worker; rows that are already finished are told at once."""
        done = {row for _, row in self.finished}
        for _ in range(10 * len(self.table.configs)):
            candidate = self.searcher.ask()
            if candidate is None:
                return
            row = self.table.row(candidate.config)
            if row not in done:
                self.num_started += 1
                self._schedule(self.table.rungs.costs[0] + self._prefix_cost(candidate), candidate.number, row, 0)
                return
            self.searcher.tell(candidate.number, self._losses(row, self.table.rungs.last))

    def advance(self) -> None:
        """Process the next event: a trial reports, and goes on or frees its worker."""
        event = heapq.heappop(self.events)
        self.now = event.time
        rungs, losses = self.table.rungs, self._losses(event.row, event.rung)
        if self.table.prefixes:
            self._paid.add(self.table.prefixes[event.row])
        if event.rung == rungs.last:
            self.finished.append((self.now, event.row))
            self.searcher.tell(event.number, losses)
            self.start()
        elif self.searcher.report(event.number, rungs.fidelities[event.rung], losses):
            cost = rungs.costs[event.rung + 1] - rungs.costs[event.rung]
            self._schedule(cost, event.number, event.row, event.rung + 1)
        else:
            self.start()

    def _schedule(self, cost: float, number: int, row: int, rung: int) -> None:
        heapq.heappush(self.events, _Event(self.now + cost, self._scheduled, number, row, rung))
        self._scheduled += 1

    def _prefix_cost(self, candidate: Candidate) -> float:
        shared = candidate.prefix is not None and candidate.prefix.uid in self._paid
        return 0.0 if shared else self.table.prefix_cost

    def _losses(self, row: int, rung: int) -> dict[str, float]:
        values = self.table.validation[row, rung].tolist()
        return {objective.name: value for objective, value in zip(self.table.learned, values, strict=True)}
