"""A table of everything known about the configurations considered so far, each entry computed once."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.encoding import Configuration, Coordinates, standardised
from paretta.orchestrator.policy.problem import Facts, SearchProblem, SharedPrefix

TableRows: TypeAlias = NDArray[np.intp]


class CandidateTable:
    """Configurations in rows; a configuration keeps its row until `forget`.

    Args:
        problem: provides known losses, features and prefixes.
        space: converts configurations to codes and model inputs.

    Attributes:
        codes: [n, knobs]; known: [n, known objectives]; inputs: [n, d], the model inputs.
        sure: [n], True if the known objectives were looked up, False if they were only estimated.
        prefixes: the shared work that each row starts from; taken: [n], True if a trial was started.
        paid: uids of the prefixes that have been computed.
    """

    def __init__(self, problem: SearchProblem, space: Coordinates) -> None:
        self._problem, self._space = problem, space
        self._row_of: dict[bytes, int] = {}
        self._scaling: tuple[Array, Array] | None = None
        self._prefix_ids: dict[str, int] = {}
        self.codes: Array = np.empty((0, len(problem.knobs)))
        self.known: Array = np.empty((0, len(problem.known)))
        self.inputs: Array = np.empty((0, 0))
        self.sure: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self.prefixes: list[SharedPrefix | None] = []
        self.taken: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self.paid: set[str] = set()
        self._expected: Array = np.empty((0, len(problem.learned)))

    def look(self, codes: Array) -> TableRows:
        """Return the rows of the configurations with codes [n, knobs], adding new ones."""
        keys = self._space.keys(codes)
        fresh: dict[bytes, int] = {}
        for position, key in enumerate(keys):
            if key not in self._row_of and key not in fresh:
                fresh[key] = position
        if fresh:
            self._enter(list(fresh), codes[list(fresh.values())])
        return np.array([self._row_of[key] for key in keys], dtype=np.intp)

    def refresh(self, rows: TableRows) -> None:
        """Update the estimated known objectives of those `rows` that were not looked up."""
        rows = rows[~self.sure[rows]]
        if len(rows):
            configs = [self._space.decode(code) for code in self.codes[rows]]
            self._set_known(rows, _column_block(self._problem.known_losses, configs))

    def correct(self, row: int, known: Array) -> None:
        """Replace the known objectives of `row` by the exact values [known]."""
        self._set_known(np.array([row]), known[None])
        self.sure[row] = True

    def expected(self, rows: TableRows) -> Array | None:
        """Return the learned losses that the prior expects of `rows`, [n, learned], on the model's scale.

        None without a prior.
        """
        if self._problem.prior is None:
            return None
        missing = np.unique(rows[np.isnan(self._expected[rows]).any(axis=1)])
        if len(missing):
            self._expected[missing] = self._problem.prior.expect(self.inputs[missing, : self._space.num_inputs])
        return self._expected[rows]

    def _set_known(self, rows: TableRows, known: Array) -> None:
        assert self._scaling is not None
        begin, count = self._space.num_inputs, known.shape[1]
        low, width = (part[:count] for part in self._scaling)
        self.known[rows] = known
        self.inputs[rows, begin : begin + count] = standardised((known - low) / width)

    def unpaid(self, rows: TableRows) -> Array:
        """Return the cost, [n], of the prefixes of `rows` that have not been computed yet."""
        prefixes = (self.prefixes[row] for row in rows.tolist())
        return np.array([0.0 if p is None or p.uid in self.paid else p.cost for p in prefixes])

    def forget(self, keep: TableRows) -> None:
        """Keep only the rows at `keep`, in that order: the first of them gets row 0."""
        self.codes, self.known, self.inputs = self.codes[keep], self.known[keep], self.inputs[keep]
        self._expected = self._expected[keep]
        self.taken, self.sure = self.taken[keep], self.sure[keep]
        self.prefixes = [self.prefixes[row] for row in keep.tolist()]
        self._row_of = {key: row for row, key in enumerate(self._space.keys(self.codes))}

    def _enter(self, keys: Sequence[bytes], codes: Array) -> None:
        configs = [self._space.decode(code) for code in codes]
        known = _column_block(self._problem.known_losses, configs)
        extra = np.hstack([known, _column_block(self._problem.features, configs)])
        if self._scaling is None:
            low, high = extra.min(axis=0), extra.max(axis=0)
            self._scaling = low, np.where(high > low, high - low, 1.0)
        inputs = np.hstack([self._space.inputs(codes), standardised((extra - self._scaling[0]) / self._scaling[1])])
        self._row_of.update({key: len(self.codes) + row for row, key in enumerate(keys)})
        self.codes = np.vstack([self.codes, codes])
        self.known = np.vstack([self.known, known])
        self._expected = np.vstack([self._expected, np.full((len(codes), self._expected.shape[1]), np.nan)])
        self.inputs = np.vstack([self.inputs.reshape(-1, inputs.shape[1]), inputs])
        self.taken = np.append(self.taken, np.zeros(len(codes), dtype=np.bool_))
        self.sure = np.append(self.sure, np.full(len(codes), self._problem.foresee is None))
        self.prefixes += [self._problem.prefix(config) if self._problem.prefix else None for config in configs]


def _column_block(facts: Facts | None, configs: Sequence[Configuration]) -> Array:
    if facts is None:
        return np.empty((len(configs), 0))
    return np.asarray(facts(configs), dtype=np.float64).reshape(len(configs), -1)
