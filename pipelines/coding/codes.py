"""Code a matrix of small, often sparse integers, with its rows, columns and neighbours as contexts."""

from dataclasses import dataclass

import numpy as np

from paretta.pipelines.coding.ans import Coder, Integers
from paretta.pipelines.coding.integers import code_histogram, code_number, within
from paretta.pipelines.coding.mixture import Mixture, level, share

_LANES = 32
_LENGTHS = 17  # bit lengths of sizes up to 16 bits
# For larger matrices the time matters more than the last tenth of the bytes: one walk through 2**18 codes, of which 90
# % are zero, takes about two seconds of CPU.
_SMALL, _LARGE, _LARGEST, _MOST_STEPS = 2**12, 2**17, 2**19, 8192
_STANDS_OUT = 0.25


@dataclass(frozen=True, slots=True)
class Way:
    """How to traverse a matrix.

    Args:
        by_rows: row by row instead of column by column.
        lag: the distance in columns to the neighbour in the line above, if columns are the pixels of an image; 1 if
            they are not, 0 for a single histogram instead of a walk.
    """

    by_rows: bool
    lag: int


def ways(codes: Integers) -> list[Way]:
    """Return the ways worth trying for `codes` [rows, columns], the histogram first.

    Large matrices and those without a dominant value are not walked: it would take minutes and save nothing.
    """
    found = [Way(by_rows=False, lag=0)]
    if codes.size > _LARGEST or (codes.size > _SMALL and np.mean(codes == _commonest(codes)) < _STANDS_OUT):
        return found
    for by_rows, walked in ((False, codes), (True, codes.T)):
        if walked.size and _steps(*walked.shape) <= _MOST_STEPS and not (by_rows and codes.size > _LARGE):
            found += [Way(by_rows, lag) for lag in sorted({1, _best_lag(walked)})]
    return found


def code_codes(coder: Coder, shape: tuple[int, int], codes: Integers | None, way: Way | None) -> Integers:
    """Code a matrix of integers of at most 16 bits; the most frequent one is the cheapest."""
    by_rows = code_number(coder, None if way is None else int(way.by_rows))
    lag = code_number(coder, None if way is None else way.lag)
    middle = code_number(coder, None if codes is None else _commonest(codes))
    offsets = None if codes is None else codes - middle
    if lag == 0:
        return _code_flat(coder, shape, offsets) + middle
    walk = shape[::-1] if within(by_rows, 1) else shape
    within(shape[0] * shape[1], _LARGEST)
    coder.reserve("steps", within(_steps(*walk), _MOST_STEPS))
    within(lag, max(walk[1], 8), least=1)
    if offsets is not None and by_rows:
        offsets = offsets.T
    largest = code_number(coder, None if offsets is None else int(np.abs(offsets).max(initial=0)))
    within(largest, 2 ** (_LENGTHS - 1))
    found = _Walk(coder, walk, lag, largest).run(offsets)
    return (found.T if by_rows else found) + middle


def _code_flat(coder: Coder, shape: tuple[int, int], offsets: Integers | None) -> Integers:
    low = code_number(coder, None if offsets is None else int(offsets.min(initial=0)))
    alphabet = code_number(coder, None if offsets is None else int(offsets.max(initial=0)) - low + 1)
    within(alphabet, 2**_LENGTHS, least=1)
    flat = None if offsets is None else (offsets - low).reshape(-1)
    return code_histogram(coder, alphabet, shape[0] * shape[1], flat).reshape(shape) + low


class _Walk:
    """Codes column by column, the rows of each in groups; the contexts of a group use everything coded before it.

    Each integer is coded as: whether it is zero; its sign; the bit length of its magnitude, in unary; the bits below
    the leading one.
    """

    def __init__(self, coder: Coder, shape: tuple[int, int], lag: int, largest: int) -> None:
        self.coder, self.shape, self.lag = coder, shape, lag
        self.longest = largest.bit_length()
        self.margin = lag + 2  # columns of zeros before the first, so that every position has neighbours
        self.found = np.zeros((shape[0], shape[1] + self.margin), np.int64)
        self.num_in_row = np.zeros(shape[0], np.int64)
        self.flags = Mixture(6, 512, shares=2)
        self.signs = Mixture(3, 27)
        self.lengths = Mixture(3, _LENGTHS * 16)
        self.tails = Mixture(2, _LENGTHS * _LENGTHS * 4)

    def run(self, offsets: Integers | None) -> Integers:
        """Code the matrix: a writer is given it, a reader returns it."""
        rows, columns = self.shape
        lanes = _lanes(rows)
        for column in range(columns):
            for start in range(0, rows, lanes):
                group = np.arange(start, min(start + lanes, rows))
                self._group(column + self.margin, group, None if offsets is None else offsets[group, column])
        return self.found[:, self.margin :]

    def _group(self, at: int, rows: Integers, values: Integers | None) -> None:
        """Code the positions `rows` of the column `at`; its index includes the margin."""
        flags = self._flags(at, rows, None if values is None else (values != 0).astype(np.int64))
        self.num_in_row[rows] += flags
        rows, chosen = rows[flags == 1], None if values is None else values[flags == 1]
        if len(rows):
            signs = self._signs(at, rows, None if chosen is None else (chosen > 0).astype(np.int64))
            sizes = self._sizes(at, rows, None if chosen is None else np.abs(chosen))
            self.found[rows, at] = np.where(signs == 1, sizes, -sizes)

    def _flags(self, at: int, rows: Integers, values: Integers | None) -> Integers:
        there, lag = self.found[rows] != 0, self.lag
        near = [at - 1, at - 2] if lag == 1 else [at - 1, at - 2, at - lag, at - lag + 1, at - lag - 1]
        pattern = there[:, near] @ (1 << np.arange(len(near)))
        in_row = share(2 * self.num_in_row[rows] + 1, 2 * (at - self.margin) + 6)
        in_column = np.full_like(in_row, self._share_in_column(at, int(rows[0]), near[:1] + near[2:4]))
        by_row, by_column = level(in_row), level(in_column)
        nothing = np.zeros_like(rows)
        slots = [nothing, pattern, by_row * 16 + by_column, by_row * 32 + pattern, by_column * 32 + pattern]
        slots.append(self._sizes_beside(at, rows))
        return self.flags.code(self.coder, np.stack(slots), values, shares=np.stack([in_row, in_column]))

    def _share_in_column(self, at: int, known: int, near: list[int]) -> Integers:
        """Return the share of non-zeros in the first `known` rows of a column, with the columns `near` as a prior."""
        columns = [column for column in near if column >= self.margin]
        around, places = np.count_nonzero(self.found[:, columns]) + 1, len(self.found) * len(columns) + 6
        above = np.count_nonzero(self.found[:known, at])
        return share(np.array(above * places + 6 * around), (known + 6) * places)

    def _signs(self, at: int, rows: Integers, values: Integers | None) -> Integers:
        beside = np.sign(self.found[rows][:, [at - 1, at - self.lag, at - max(self.lag - 1, 2)]]) + 1
        slots = np.stack([np.zeros_like(rows), beside @ np.array([1, 3, 9]), beside[:, 0]])
        return self.signs.code(self.coder, slots, values)

    def _sizes(self, at: int, rows: Integers, values: Integers | None) -> Integers:
        """Code sizes of at least 1."""
        beside = self._sizes_beside(at, rows)
        lengths, growing = np.ones(len(rows), np.int64), np.arange(len(rows))
        for length in range(1, self.longest):
            longer = None if values is None else (values[growing] >> length > 0).astype(np.int64)
            fixed = np.full(len(growing), length)
            slots = np.stack([fixed, fixed * 16 + beside[growing], fixed * 16 + rows[growing] % 16])
            growing = growing[self.lengths.code(self.coder, slots, longer) == 1]
            lengths[growing] += 1
        return self._tails(lengths, values)

    def _tails(self, lengths: Integers, values: Integers | None) -> Integers:
        """Code the bits below the leading one, high ones first, and return the sizes."""
        sizes = np.ones_like(lengths)
        for done in range(1, self.longest):
            longer = np.flatnonzero(lengths > done)
            left = lengths[longer] - done - 1
            bits = None if values is None else values[longer] >> left & 1
            place = lengths[longer] * _LENGTHS + done
            slots = np.stack([place, place * 4 + np.minimum(sizes[longer], 3)])
            sizes[longer] = sizes[longer] * 2 + self.tails.code(self.coder, slots, bits)
        return sizes

    def _sizes_beside(self, at: int, rows: Integers) -> Integers:
        return np.asarray(np.minimum(np.abs(self.found[rows][:, [at - 1, at - self.lag]]), 3) @ np.array([1, 4]))


def _lanes(rows: int) -> int:
    return max(_LANES, -(-rows // 8))


def _steps(rows: int, columns: int) -> int:
    return columns * -(-rows // _lanes(rows))


def _commonest(codes: Integers) -> int:
    values, counts = np.unique(codes, return_counts=True)
    return int(values[counts.argmax()]) if len(values) else 0


def _best_lag(codes: Integers) -> int:
    """Return the lag in columns, at least 2, at which the pattern of non-zeros correlates most; 1 if it never does."""
    there = (codes != 0).astype(np.int64)
    columns = there.shape[1]
    centred = there * there.size - there.sum()
    alike = {
        lag: float((centred[:, lag:].astype(float) * centred[:, :-lag]).mean())
        for lag in range(2, min(columns // 4, 512))
    }
    return max(alike, key=lambda lag: alike[lag], default=1)
