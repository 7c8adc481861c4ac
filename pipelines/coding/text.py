"""Code bytes, such as those of a graph, with the preceding bytes as contexts."""

from functools import cache

import numpy as np

from paretta.pipelines.coding.ans import CHANCE_BITS, Coder
from paretta.pipelines.coding.integers import code_number
from paretta.pipelines.coding.mixture import LARGEST_ODDS, ODDS_BITS, SHARE_BITS, SQUASH, STRETCH, WEIGHT_BITS

# the preceding bytes that each context uses; 1 is the last
_CONTEXTS = ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5, 6), (2, 3), (3, 4))
_RATE = 8
_stretch, _squash = STRETCH.tolist(), SQUASH.tolist()


def code_text(coder: Coder, text: bytes | None, *, known: bytes = b"") -> bytes:
    """Code a few thousand bytes; text similar to `known`, which writer and reader have, is cheap."""
    number = code_number(coder, None if text is None else len(text))
    coder.reserve("bytes of text", number)
    reader = _knowing(known).copy()
    return bytes(reader.code(coder, None if text is None else text[at]) for at in range(number))


class _Context:
    """A logistic mixture like `coding.mixture`, for one bit at a time, which is faster without arrays."""

    def __init__(self) -> None:
        self.past = [0] * 8
        self.counts: list[dict[tuple[int, ...], tuple[int, int]]] = [{} for _ in _CONTEXTS]
        sets = len(_CONTEXTS) + 1
        self.weights = [[(16 << WEIGHT_BITS) // (10 * len(_CONTEXTS))] * len(_CONTEXTS) for _ in range(sets)]

    def copy(self) -> "_Context":
        """Return an independent copy with the same state."""
        other = _Context()
        other.past, other.counts = [*self.past], [dict(table) for table in self.counts]
        other.weights = [[*weights] for weights in self.weights]
        return other

    def code(self, coder: Coder | None, byte: int | None) -> int:
        """Code one byte, or only learn from one that both sides know."""
        keys = [tuple(self.past[back - 1] for back in context) for context in _CONTEXTS]
        found = 1
        for place in range(7, -1, -1):
            bit = None if byte is None else byte >> place & 1
            found = found * 2 + self._bit(coder, [(*key, found) for key in keys], bit)
        self.past = [found & 0xFF, *self.past[:-1]]
        return found & 0xFF

    def _bit(self, coder: Coder | None, keys: list[tuple[int, ...]], bit: int | None) -> int:
        seen = [table.get(key, (0, 0)) for table, key in zip(self.counts, keys, strict=True)]
        opinions = [_stretch[((20 * ones + 4) << SHARE_BITS) // (20 * all_ + 8)] for ones, all_ in seen]
        weights = self.weights[sum(all_ > 0 for _, all_ in seen)]
        odds = sum(map(int.__mul__, weights, opinions)) >> WEIGHT_BITS
        chance = _squash[min(max(odds, -LARGEST_ODDS), LARGEST_ODDS) + LARGEST_ODDS]
        if coder is not None:
            bit = int(coder.bits(np.array([chance]), None if bit is None else np.array([bit]))[0])
        assert bit is not None
        slope = ((bit << CHANCE_BITS) - chance) * _RATE
        for place, opinion in enumerate(opinions):
            weights[place] += slope * opinion >> ODDS_BITS + 10
        for table, key, (ones, all_) in zip(self.counts, keys, seen, strict=True):
            table[key] = (ones + bit, all_ + 1)
        return bit


@cache
def _knowing(text: bytes) -> _Context:
    reader = _Context()
    for byte in text:
        reader.code(None, byte)
    return reader
