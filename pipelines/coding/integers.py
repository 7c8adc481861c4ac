"""Code arrays of integers, with adaptive histograms and numbers of any width."""

import numpy as np

from paretta.pipelines.coding.ans import Coder, Integers

_FIRST_BLOCK = 8
_SHORT = 15
_LENGTHS = 64  # the number of possible bit lengths of a number of up to 63 bits
_DIGIT_BITS = 16
_PRIOR = 16  # a symbol seen once counts this many times more than one never seen


def code_histogram(coder: Coder, alphabet: int, number: int, values: Integers | None) -> Integers:
    """Code `number` symbols 0 .. alphabet - 1 by their frequency so far.

    The histogram is updated at doubling distances, so that it need not be stored and most symbols are coded in large
    groups. Learning it costs about ``(alphabet - 1) / 2 * log2(number)`` bits (Krichevsky and Trofimov, 1981).
    """
    result = np.zeros(number, np.int64)
    if alphabet == 1:
        return result
    counts = np.ones(alphabet, np.int64)
    start, size = 0, _FIRST_BLOCK
    while start < number:
        stop = min(start + size, number)
        result[start:stop] = coder.symbols(counts, stop - start, None if values is None else values[start:stop])
        counts += _PRIOR * np.bincount(result[start:stop], minlength=alphabet)
        start, size = stop, max(size, stop)
    return result


def code_number(coder: Coder, value: int | None) -> int:
    """Code one integer of at most 62 bits and its sign; small ones cost a few bits."""
    folded = None if value is None else _folded(np.array([value]))
    length = None if folded is None else _bit_lengths(folded)
    short = coder.digits(np.array([_SHORT + 1]), None if length is None else np.minimum(length, _SHORT))
    if short[0] == _SHORT:
        short = coder.digits(np.array([_LENGTHS]), length)
    return int(_unfolded(_code_tails(coder, short, folded))[0])


def code_wide(coder: Coder, number: int, values: Integers | None) -> Integers:
    """Code `number` integers near some centre: bit lengths by histogram, the bits below the leading one uncompressed.

    Trailing zero bits that all integers share cost nothing, so rounded floats are cheap.
    """
    if number == 0:
        return np.zeros(0, np.int64)
    shift, centre = (None, None) if values is None else _frame(values)
    shift, centre = code_number(coder, shift), code_number(coder, centre)
    folded = None if values is None else _folded((values >> shift) - centre)
    lengths = None if folded is None else _bit_lengths(folded)
    longest = within(code_number(coder, None if lengths is None else int(lengths.max())), _LENGTHS - 1)
    within(shift, _LENGTHS - 1)
    lengths = code_histogram(coder, longest + 1, number, lengths)
    return np.asarray(_unfolded(_code_tails(coder, lengths, folded)) + centre << shift)


def within(number: int, largest: int, least: int = 0) -> int:
    """Return a number that was read. Raises `ValueError` if it is outside the range that writers use."""
    if not least <= number <= largest:
        raise ValueError(f"{number} is not in {least} .. {largest}")
    return number


def _folded(values: Integers) -> Integers:
    """Map integers to non-negative ones: 0, -1, 1, -2, .. to 0, 1, 2, 3, .."""
    return np.where(values < 0, -2 * values - 1, 2 * values)


def _unfolded(values: Integers) -> Integers:
    return np.where(values % 2 == 1, -(values + 1) // 2, values // 2)


def _frame(values: Integers) -> tuple[int, int]:
    """Return the number of trailing zero bits that all `values` share, and the approximate median of the rest."""
    together = int(np.bitwise_or.reduce(values))
    shift = (together & -together).bit_length() - 1 if together else 0
    centre = int(np.sort(values >> shift)[len(values) // 2])
    spread = int(np.median(np.abs((values >> shift) - centre)))
    coarse = max(spread.bit_length() - 2, 0)
    return shift, centre >> coarse << coarse


def _bit_lengths(values: Integers) -> Integers:
    """Return the bit length of each non-negative integer below 2**63."""
    lengths = np.zeros(len(values), np.int64)
    left = values.copy()
    while left.any():
        lengths += left > 0
        left >>= 1
    return lengths


def _code_tails(coder: Coder, lengths: Integers, values: Integers | None) -> Integers:
    """Code the bits below the leading one of each number, high digits first; return the numbers."""
    result = (lengths > 0).astype(np.int64)
    left = np.maximum(lengths - 1, 0)
    while (open_ := left > 0).any():
        width = np.minimum(left[open_], _DIGIT_BITS)
        rest = left[open_] - width
        digits = None if values is None else (values[open_] >> rest) & ((1 << width) - 1)
        result[open_] = (result[open_] << width) | coder.digits(1 << width, digits)
        left[open_] = rest
    return result
