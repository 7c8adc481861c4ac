"""The history of a search: which configurations were started, what they reported and how they ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.candidate_table import CandidateTable, TableRows
from paretta.orchestrator.policy.problem import SearchProblem
from paretta.search_spaces.objectives.pareto import non_dominated

_MANY = 200  # with more finished trials, only those near the front are smoothed
_MOST_ROWS_KEPT = 20_000  # with more rows, configurations that were considered but not started are dropped

RunState: TypeAlias = Literal["running", "finished", "stopped", "failed"]


@dataclass(slots=True)
class Run:
    """One trial so far: its row in the candidate table and the losses [learned] at each rung it reported."""

    row: int
    state: RunState = "running"
    ranks_high: bool = True
    readings: list[tuple[int, Array]] = field(default_factory=list)


class RunHistory:
    """The runs of a search in the order of their numbers.

    Args:
        problem: the search problem, which names the learned objectives.
        table: the configurations that the runs train.
    """

    def __init__(self, problem: SearchProblem, table: CandidateTable) -> None:
        self._problem, self._table = problem, table
        self.runs: list[Run] = []
        self.others: list[Array] = []

    def __len__(self) -> int:
        """Return the number of runs in any state."""
        return len(self.runs)

    def __getitem__(self, number: int) -> Run:
        """Return the run of the candidate with this number."""
        return self.runs[number]

    def start(self, row: int) -> int:
        """Add a running trial of the configuration at `row`, and return its number."""
        self.runs.append(Run(row))
        self._table.taken[row] = True
        return len(self.runs) - 1

    def observe(self, run: Run, rung: int, losses: Mapping[str, float]) -> None:
        """Record the losses of a run at a rung; a second report of a rung is ignored.

        Raises:
            ValueError: a loss is not finite.
        """
        values = np.array([losses[objective.name] for objective in self._problem.learned], dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"losses must be finite, got {dict(losses)}; tell a trial that diverged as failed")
        prefix = self._table.prefixes[run.row]
        if prefix is not None:
            self._table.paid.add(prefix.uid)
        if not run.readings or run.readings[-1][0] < rung:
            run.readings.append((rung, values))

    def compact(self) -> None:
        """Drop the rows without a run if the candidate table has grown large."""
        if len(self._table.codes) <= _MOST_ROWS_KEPT:
            return
        keep, renumbered = np.unique(self._rows(self.runs), return_inverse=True)
        self._table.forget(keep)
        for run, row in zip(self.runs, renumbered.tolist(), strict=True):
            run.row = row

    @property
    def num_reports(self) -> int:
        """The total number of reports."""
        return sum(len(run.readings) for run in self.runs)

    def count(self, state: RunState) -> int:
        """Return the number of runs in a state."""
        return sum(run.state == state for run in self.runs)

    def is_first_to_finish(self, run: Run) -> bool:
        """Return True if no trial has finished yet and `run` is the oldest running one."""
        running = [other for other in self.runs if other.state == "running"]
        return running[0] is run and all(other.state != "finished" for other in self.runs)

    def running(self) -> TableRows:
        """Return the table rows of the running trials, [n]."""
        return self._rows([run for run in self.runs if run.state == "running"])

    def finished(self) -> tuple[TableRows, Array]:
        """Return the table rows [n] of the finished trials, latest last, and their losses [n, known + learned]."""
        finished = [run for run in self.runs if run.state == "finished"]
        rows = self._rows(finished)
        told = np.array([run.readings[-1][1] for run in finished]).reshape(len(finished), len(self._problem.learned))
        return rows, np.hstack([self._table.known[rows], told])

    def near_front(self) -> TableRows:
        """Return the rows of the finished trials; of many trials, only the two best layers by their reported losses."""
        rows, losses = self.finished()
        if len(rows) > _MANY:
            first = non_dominated(losses)
            first[~first] = non_dominated(losses[~first])
            rows = rows[first]
        return rows

    def reports(self) -> tuple[TableRows, Array, Array]:
        """Return the table row [n], distance from the last rung [n] and losses [n, learned] of each report."""
        seen = [(run.row, rung, losses) for run in self.runs for rung, losses in run.readings]
        rows = np.array([row for row, _, _ in seen], dtype=np.intp)
        distance = np.array([1.0 - self._problem.rungs.position(rung) for _, rung, _ in seen])
        return rows, distance, np.array([losses for _, _, losses in seen]).reshape(-1, len(self._problem.learned))

    def last_reports(self) -> tuple[TableRows, Array, Array]:
        """Return the same for the last report of each run."""
        rows, distance, losses = self.reports()
        last = np.cumsum([len(run.readings) for run in self.runs if run.readings], dtype=np.intp) - 1
        return rows[last], distance[last], losses[last]

    def survivals(self, most: int) -> tuple[TableRows, Array]:
        """Return the rows of the `most` latest ended runs, and their outcomes [n]: 1 survived, 0 failed."""
        ended = [run for run in self.runs if run.state != "running"][-most:]
        return self._rows(ended), np.array([float(run.state != "failed") for run in ended])

    def _rows(self, runs: list[Run]) -> TableRows:
        return np.array([run.row for run in runs], dtype=np.intp)
