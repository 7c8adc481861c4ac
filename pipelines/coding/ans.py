"""An entropy coder: write symbols to a byte stream and read them back, by asymmetric numeral systems (ANS)."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

import constriction
import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]

model, stack = constriction.stream.model, constriction.stream.stack
CoderStep: TypeAlias = Callable[[Any], None]

CHANCE_BITS = 16
_WORD_BYTES = 4
# The most that a stream may hold: a constant, plus an amount for each of its bytes. Symbols of probability 1 cost no
# bytes, so a short stream could claim any number of them. Real models stay far below these limits.
ALLOWED: Final[Mapping[str, tuple[int, int]]] = {
    "bytes of text": (2**16, 64),
    "numbers": (2**20, 32),
    "steps": (2**14, 8),  # steps of walks through matrices
    "bytes": (2**20, 64),  # bytes of the whole file
}


def most_of(what: str, num_bytes: int) -> int:
    """Return how much of `what` a stream of `num_bytes` bytes may hold.

    >>> most_of("numbers", 279)
    1057504
    """
    least, per_byte = ALLOWED[what]
    return least + per_byte * num_bytes


class Coder(Protocol):
    """The interface that the models of this package use, the same for writing and reading.

    A writer is given the symbols and returns them; a reader is given None and returns the symbols that were written. A
    model must compute its probabilities from integers only, or a reader on another machine could differ.
    """

    def bits(self, chances: Integers, values: Integers | None) -> Integers:
        """Code bits [n], each of which is 1 with probability ``chance / 2**16``; chances are in 1 .. 2**16 - 1."""
        ...

    def symbols(self, counts: Integers, number: int, values: Integers | None) -> Integers:
        """Code `number` symbols 0 .. k - 1 with probabilities proportional to `counts` [k] > 0, k at least 2."""
        ...

    def digits(self, sizes: Integers, values: Integers | None) -> Integers:
        """Code numbers [n] that are equally likely in 0 .. size - 1; sizes lie in 2 .. 2**16."""
        ...

    def reserve(self, what: str, amount: int) -> None:
        """Announce how much of `what`, a key of `ALLOWED`, follows, before anything is allocated for it.

        A reader raises `ValueError` if its stream is too short to hold this much.
        """
        ...


class Writer:
    """Collects symbols, and encodes them in reverse order at the end, since ANS is last in, first out (Duda, 2013)."""

    def __init__(self) -> None:
        """Start an empty stream."""
        self.part = ""
        self._steps: list[tuple[str, CoderStep]] = []

    def bits(self, chances: Integers, values: Integers | None) -> Integers:
        """Take bits, see `Coder`."""
        return self._take(values, model.Bernoulli(perfect=False), chances / 2**CHANCE_BITS)

    def symbols(self, counts: Integers, number: int, values: Integers | None) -> Integers:
        """Take symbols, see `Coder`."""
        return self._take(values, _categorical(counts))

    def digits(self, sizes: Integers, values: Integers | None) -> Integers:
        """Take digits, see `Coder`."""
        return self._take(values, model.Uniform(), sizes.astype(np.int32))

    def reserve(self, what: str, amount: int) -> None:
        """Take any amount, see `Coder`."""

    def finish(self) -> tuple[bytes, dict[str, float]]:
        """Return the stream, and the bytes of each part (the value of `part` when its symbols were written)."""
        coder, spent = stack.AnsCoder(), defaultdict[str, float](float)
        for part, step in reversed(self._steps):
            before = coder.num_valid_bits()
            step(coder)
            spent[part] += (coder.num_valid_bits() - before) / 8
        words = coder.get_compressed().astype("<u4")
        return words.tobytes().rstrip(b"\0"), dict(spent)

    def _take(self, values: Integers | None, *how: object) -> Integers:
        assert values is not None
        if len(values):
            symbols = values.astype(np.int32)
            self._steps.append((self.part, lambda coder: coder.encode_reverse(symbols, *how)))
        return values


class Reader:
    """Returns the symbols of a writer, requested in the same order."""

    def __init__(self, stream: bytes) -> None:
        """Start at the beginning of `stream`."""
        self._left = {what: most_of(what, len(stream)) for what in ALLOWED}
        whole = stream + bytes(-len(stream) % _WORD_BYTES)
        self._coder = stack.AnsCoder(np.frombuffer(whole, "<u4").astype(np.uint32))

    def bits(self, chances: Integers, values: Integers | None) -> Integers:
        """Return bits, see `Coder`."""
        return self._give(len(chances), model.Bernoulli(perfect=False), chances / 2**CHANCE_BITS)

    def symbols(self, counts: Integers, number: int, values: Integers | None) -> Integers:
        """Return symbols, see `Coder`."""
        return self._give(number, _categorical(counts), number)

    def digits(self, sizes: Integers, values: Integers | None) -> Integers:
        """Return digits, see `Coder`."""
        return self._give(len(sizes), model.Uniform(), sizes.astype(np.int32))

    def reserve(self, what: str, amount: int) -> None:
        """Check the announced amount against what the stream can hold, see `Coder`."""
        self._left[what] -= amount
        if amount < 0 or self._left[what] < 0:
            raise ValueError(f"it claims more {what} than a stream of its size can hold")

    def _give(self, number: int, *how: object) -> Integers:
        if number == 0:
            return np.zeros(0, np.int64)
        return np.asarray(self._coder.decode(*how), np.int64)


def _categorical(counts: Integers) -> object:
    return model.Categorical(counts.astype(np.float32), perfect=False)
