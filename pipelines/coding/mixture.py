"""Mix the predictions of several contexts into one probability for each bit, learned while coding."""

import math

import numpy as np

from paretta.pipelines.coding.ans import CHANCE_BITS, Coder, Integers

SHARE_BITS = 12  # fixed-point bits of a share such as "ones among the bits seen"
ODDS_BITS = 8  # fixed-point bits of log odds
WEIGHT_BITS = 16
LARGEST_ODDS = 10 << ODDS_BITS  # e**10: no bit costs less than 1/15,000 bit
_RATE = 500  # the learning rate of the weights, 0.008 at WEIGHT_BITS
_FADE = 1023  # counts are halved beyond this, so that a context can adapt

# Rounded so coarsely that no machine's logarithm can give another integer; a test ensures that.
STRETCH = np.array([round(math.log((i + 0.5) / (4095.5 - i)) * 2**ODDS_BITS) for i in range(2**SHARE_BITS)], np.int64)
SQUASH = np.array(
    [
        min(max(round(2**CHANCE_BITS / (1 + math.exp(-odds / 2**ODDS_BITS))), 1), 2**CHANCE_BITS - 1)
        for odds in range(-LARGEST_ODDS, LARGEST_ODDS + 1)
    ],
    np.int64,
)


class Mixture:
    """A logistic mixture of adaptive contexts (Mahoney, 2005, PAQ), for many bits at a time.

    ``p = squash(sum_i w_i * stretch(p_i))`` with ``stretch(p) = ln(p / (1 - p))`` and ``squash`` its inverse. Each
    ``p_i`` is the share of ones among the bits that a context saw, and the weights follow the gradient of the code
    length. All computations use integers, so that every machine gives the same result.

    Args:
        contexts: the number of contexts that predict each bit.
        slots: the number of states of a context.
        shares: the number of further predictions that are given with the bits, as shares.
    """

    def __init__(self, contexts: int, slots: int, *, shares: int = 0) -> None:
        """Start without statistics and with equal weights."""
        self._ones = np.zeros((contexts, slots), np.int64)
        self._seen = np.zeros((contexts, slots), np.int64)
        opinions = contexts + shares
        self._weights = np.full(opinions, (16 << WEIGHT_BITS) // (10 * opinions), np.int64)
        self._rows = np.arange(contexts)[:, None]

    def code(
        self, coder: Coder, slots: Integers, values: Integers | None, *, shares: Integers | None = None
    ) -> Integers:
        """Code bits [n], predicted by contexts in the states `slots` [contexts, n] and by `shares` [shares, n].

        Bits of one call do not influence each other's prediction.
        """
        if not slots.shape[1]:
            return np.zeros(0, np.int64)
        states = (self._rows, slots)
        told = ((10 * self._ones[states] + 4) << SHARE_BITS) // (10 * self._seen[states] + 8)
        opinions = STRETCH[told if shares is None else np.concatenate([told, shares])]
        odds = (self._weights @ opinions) >> WEIGHT_BITS
        chances = SQUASH[np.clip(odds, -LARGEST_ODDS, LARGEST_ODDS) + LARGEST_ODDS]
        bits = coder.bits(chances, values)
        slope = opinions @ ((bits << CHANCE_BITS) - chances)
        self._weights += slope * _RATE // (math.isqrt(len(bits)) << (CHANCE_BITS + ODDS_BITS))
        self._learn(states, bits)
        return bits

    def _learn(self, states: tuple[Integers, Integers], bits: Integers) -> None:
        np.add.at(self._ones, states, bits)
        np.add.at(self._seen, states, 1)
        old = self._seen[states] > _FADE
        if old.any():
            for counts in (self._ones, self._seen):
                counts[states] = np.where(old, (counts[states] + 1) // 2, counts[states])


def share(ones: Integers, seen: int) -> Integers:
    """Return ``ones / seen`` as a share; `seen` is positive and `ones` between 0 and `seen`.

    >>> share(np.array([1, 2]), 2).tolist()
    [2048, 4095]
    """
    shares: Integers = np.minimum((ones << SHARE_BITS) // seen, 2**SHARE_BITS - 1)
    return shares


def level(shares: Integers) -> Integers:
    """Quantise shares to 16 levels, which are finer where one of the two bit values is rare.

    >>> level(np.array([0, 40, 2048, 4095])).tolist()
    [0, 3, 8, 15]
    """
    levels: Integers = np.clip((STRETCH[shares] + (8 << ODDS_BITS)) >> ODDS_BITS, 0, 15)
    return levels
