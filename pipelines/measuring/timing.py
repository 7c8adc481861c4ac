"""Times of short calls that hold on a busy machine: CPU clocks, interleaved blocks, and a fresh session each round."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.measuring.intervals import bootstrap_interval, session_ratios
from paretta.pipelines.measuring.ort_session import RuntimeCall

Opener: TypeAlias = Callable[[], RuntimeCall]
Clock: TypeAlias = Callable[[], float]

NUM_WARM_UPS = 5
NUM_PADS, PAD_BYTES = 16, 60_000


@dataclass(frozen=True, slots=True)
class TimingProtocol:
    """How long and how exactly to measure.

    Args:
        side_seconds: the shortest CPU time of one side of a block.
        min_sessions: before the interval is trusted.
        half_width: stop when the interval's half width is below this share of the estimate.
        budget_seconds: stop after this much wall time, once there are `min_sessions`.
    """

    side_seconds: float = 0.010
    min_sessions: int = 8
    half_width: float = 0.015
    budget_seconds: float = 10.0


@dataclass(slots=True)
class Rounds:
    """Seconds a call in each round, which is a pair of sessions: [rounds, blocks] in all three.

    Args:
        candidate: CPU seconds.
        reference: likewise, taken beside the candidate's.
        wall: the candidate's wall seconds.
    """

    candidate: list[tuple[float, ...]] = field(default_factory=list)
    reference: list[tuple[float, ...]] = field(default_factory=list)
    wall: list[tuple[float, ...]] = field(default_factory=list)

    def ratios(self) -> NDArray[np.float64]:
        """Return candidate over reference of each round, [rounds]."""
        return session_ratios(np.asarray(self.candidate), np.asarray(self.reference))

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the median ratio, which covers what differs between sessions."""
        return bootstrap_interval(self.ratios())


def interleave(
    candidate: Opener,
    reference: Opener,
    protocol: TimingProtocol,
    *,
    cpu: Clock = time.thread_time,
    wall: Clock = time.perf_counter,
) -> Rounds:
    """Time both, a fresh session of each per round, until the ratio is known well enough.

    A round is one block of candidate, reference, reference, candidate and one the other way about. The order cancels a
    linear drift of the machine's speed and what comes from being first; the ratio inside a block cancels slow drift.
    Where a session's memory happens to lie makes it some per cent faster or slower for as long as it lives, so that
    more blocks of one session only narrow the interval around its own luck. Therefore rounds open new ones.

    Args:
        candidate: opens what is judged.
        reference: opens what it is compared with.
        protocol: when to stop.
        cpu: the clock of the ratio.
        wall: the clock of the time budget.
    """
    sides = [_Side(opener, protocol, cpu, wall) for opener in (candidate, reference)]
    rounds, started = Rounds(), wall()
    while True:
        _add_round(rounds, *sides)
        if is_done(rounds.ratios(), protocol, wall() - started):
            return rounds


def sample(
    opener: Opener, protocol: TimingProtocol, *, cpu: Clock, counters: tuple[Clock, ...]
) -> tuple[NDArray[np.float64], int]:
    """Return what one call adds to each counter, [rounds, counters], and the number of calls in a round.

    Args:
        opener: opens a fresh session for each round.
        protocol: when to stop; the first counter decides.
        cpu: the clock of the protocol's `side_seconds`.
        counters: rising readings, such as a clock's or an energy counter's.
    """
    side, started = _Side(opener, protocol, cpu, time.perf_counter), time.perf_counter()
    found: list[list[float]] = []
    while True:
        with side.opened(len(found)):
            before = [counter() for counter in counters]
            side.run()
            found.append([(counter() - start) / side.count for counter, start in zip(counters, before, strict=True)])
        if is_done(np.asarray(found)[:, 0], protocol, time.perf_counter() - started):
            return np.asarray(found), side.count


def is_done(values: NDArray[np.float64], protocol: TimingProtocol, elapsed: float) -> bool:
    """Tell whether `values` [rounds] are enough: the interval of their median is narrow, or the time is up."""
    if len(values) < protocol.min_sessions:
        return False
    low, high = bootstrap_interval(values)
    return elapsed >= protocol.budget_seconds or (high - low) < protocol.half_width * (high + low)


@dataclass(slots=True)
class _Side:
    """One of the two that are compared: its present session, and how often that is called at a time."""

    opener: Opener
    protocol: TimingProtocol
    cpu: Clock
    wall: Clock
    count: int = 0
    call: RuntimeCall | None = None

    @contextmanager
    def opened(self, number: int) -> Iterator[None]:
        """Hold a session of its own in round `number`, warmed up, in memory that was shifted at random before."""
        lengths = np.random.default_rng(number).integers(1, PAD_BYTES, NUM_PADS)
        pads = [bytearray(int(length)) for length in lengths]
        self.call = self.opener()
        self._warm_up(self.call)
        self.count = self.count or self._repeats()
        try:
            yield
        finally:
            self.call = None
            pads.clear()

    def run(self) -> None:
        """Call it `count` times."""
        call = self.call
        assert call is not None
        for _ in range(self.count):
            call()

    def seconds(self) -> NDArray[np.float64]:
        """Return CPU and wall seconds a call."""
        wall, cpu = self.wall(), self.cpu()
        self.run()
        return np.array([self.cpu() - cpu, self.wall() - wall]) / self.count

    def _warm_up(self, call: RuntimeCall) -> None:
        """Call until it is warm: a slow model twice, a fast one more often."""
        started = self.cpu()
        for number in range(NUM_WARM_UPS):
            call()
            if number > 0 and self.cpu() - started > self.protocol.side_seconds:
                return

    def _repeats(self) -> int:
        """Return how many calls take `side_seconds`."""
        self.count = 1
        while (spent := float(self.seconds()[0]) * self.count) < self.protocol.side_seconds:
            growth = self.protocol.side_seconds / max(spent, 1e-9)
            self.count = max(self.count + 1, int(self.count * min(1.1 * growth, 10.0)))
        return self.count


def _add_round(rounds: Rounds, candidate: _Side, reference: _Side) -> None:
    number = len(rounds.candidate)
    first, second = (candidate, reference) if number % 2 == 0 else (reference, candidate)
    with first.opened(2 * number), second.opened(2 * number + 1):
        blocks = [_block(candidate, reference), _block(reference, candidate)[::-1]]
    times = np.array(blocks)  # [blocks, sides, clocks]
    rounds.candidate.append(tuple(times[:, 0, 0]))
    rounds.reference.append(tuple(times[:, 1, 0]))
    rounds.wall.append(tuple(times[:, 0, 1]))


def _block(outer: _Side, inner: _Side) -> list[NDArray[np.float64]]:
    """Return CPU and wall seconds a call of both, [2, 2]."""
    first, second, third, last = [side.seconds() for side in (outer, inner, inner, outer)]
    return [(first + last) / 2, (second + third) / 2]
