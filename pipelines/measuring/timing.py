"""Time short calls reliably on a busy machine: with CPU clocks, short blocks, and a new session each round."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.measuring.intervals import FULL_SPEED, VISIT_SPREAD, bootstrap_interval, widened
from paretta.pipelines.runtime import RuntimeCall

Opener: TypeAlias = Callable[[], RuntimeCall]
Clock: TypeAlias = Callable[[], float]

NUM_WARM_UPS = 5
NUM_PADS, PAD_BYTES = 16, 60_000
MIN_BLOCKS, MAX_BLOCKS = 4, 40
MIN_KEPT: Final = 4  # the fewest rounds for an interval


@dataclass(frozen=True, slots=True)
class TimingProtocol:
    """How long and how precisely to measure.

    Args:
        side_seconds: the shortest CPU time of all blocks of one side in a round.
        block_seconds: the shortest CPU time of one block, where sides are interleaved.
        min_sessions: the fewest sessions before the interval is used.
        half_width: stop when the interval's half width is below this share of the estimate.
        budget_seconds: stop after this much wall time, once there are `min_sessions`.
    """

    side_seconds: float = 0.010
    block_seconds: float = 0.0004
    min_sessions: int = 8
    half_width: float = 0.015
    budget_seconds: float = 10.0


@dataclass(slots=True)
class Rounds:
    """Seconds per call in each round, which has one session of each side; side 0 is the reference.

    Args:
        fastest: CPU seconds in the fastest block, [rounds][sides].
        cpu: CPU seconds, mean over the blocks, likewise.
        wall: wall seconds, likewise.
        known: CPU seconds of the reference in the fastest round of earlier readings; inf if there is none.
    """

    fastest: list[tuple[float, ...]] = field(default_factory=list)
    cpu: list[tuple[float, ...]] = field(default_factory=list)
    wall: list[tuple[float, ...]] = field(default_factory=list)
    known: float = math.inf

    def kept(self, side: int = 1) -> NDArray[np.intp]:
        """Return the rounds in which both `side` and the reference ran at full speed; all rounds if those are too few.

        A core is slower while other guests of its host also use it, briefly or for tens of seconds, and small models
        are slowed more than large ones. So the ratio is computed from undisturbed blocks, which are the fastest ones.
        """
        times = np.asarray(self.fastest)[:, [0, side]]
        best = np.minimum(times.min(axis=0), [self.known, np.inf])
        (fast,) = (times <= FULL_SPEED * best).all(axis=1).nonzero()
        return fast if len(fast) >= MIN_KEPT else np.arange(len(times))

    def ratios(self, side: int = 1) -> NDArray[np.float64]:
        """Return `side` over reference of each kept round, [kept]."""
        times = np.asarray(self.fastest)[self.kept(side)]
        return np.asarray(times[:, side] / times[:, 0])

    def seconds(self, side: int) -> float:
        """Return the median over the kept rounds."""
        return float(np.median(np.asarray(self.fastest)[self.kept(max(side, 1)), side]))

    def slowness(self, side: int = 1) -> float:
        """Return the slowdown of the kept rounds relative to full speed, the larger of the two sides; at least 1.

        A slowdown within the normal variation of sessions counts as 1.
        """
        times = np.asarray(self.fastest)[:, [0, side]]
        best = np.minimum(times.min(axis=0), [self.known, np.inf])
        slowness = float((np.median(times[self.kept(side)], axis=0) / best).max())
        return slowness if slowness > FULL_SPEED else 1.0

    def contention(self, side: int = 1) -> float:
        """Return wall time over CPU time of `side`: about 1 if a thread had its core to itself."""
        return float(np.median(np.asarray(self.wall)[:, side] / np.asarray(self.cpu)[:, side]))

    def interval(self, side: int = 1, *, spread: float = VISIT_SPREAD) -> tuple[float, float]:
        """Return the 95 % interval of the median ratio, including the variation between rounds and between visits.

        If only a few rounds ran at full speed, it is unknown how much each side was slowed. Then both ends move
        outwards by the slowdown of the slower side.

        Args:
            side: whose ratio.
            spread: half the 95 % interval of the error that all rounds of one visit share, relative to the ratio.
        """
        ratios = self.ratios(side)
        low, high = widened(*bootstrap_interval(ratios), at=float(np.median(ratios)), spread=spread)
        return low / self.slowness(side), high * self.slowness(side)


def interleave(
    openers: Sequence[Opener],
    protocol: TimingProtocol,
    *,
    cpu: Clock = time.thread_time,
    wall: Clock = time.perf_counter,
    cores: Sequence[int] = (),
    known: float = math.inf,
) -> Rounds:
    """Time all sides, with a new session of each per round, until their ratios to the first are precise enough.

    A round runs short blocks of each side in turn, forwards and backwards. The time of a side is its fastest block,
    since slower ones include effects of other work on the core and its caches. A session's memory layout makes it a few
    per cent faster or slower for its whole life, and more blocks of the same session cannot average this out. Therefore
    each round opens new sessions.

    Args:
        openers: open sessions of the reference and of the models to compare.
        protocol: when to stop.
        cpu: the clock of the ratio.
        wall: the clock of the time budget.
        cores: rounds run on each of these in turn, since a single core may be slow for long; empty: on any core.
        known: CPU seconds of the reference at full speed, from earlier readings.
    """
    sides = [_Side(opener, protocol, cpu, wall, protocol.block_seconds) for opener in openers]
    rounds, started = Rounds(known=known), wall()
    while True:
        number = len(rounds.fastest)
        with _on_core(cores, number):
            _add_round(rounds, sides, number)
        if _is_known(rounds, len(sides), protocol, wall() - started):
            return rounds


def usable_cores() -> tuple[int, ...]:
    """Return the cores that this process may choose from; empty if the system does not support this."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def sample(
    opener: Opener, protocol: TimingProtocol, *, cpu: Clock, counters: tuple[Clock, ...]
) -> tuple[NDArray[np.float64], int]:
    """Return the increase of each counter per call, [rounds, counters], and the number of calls in a round.

    Args:
        opener: opens a fresh session for each round.
        protocol: when to stop; the first counter decides.
        cpu: the clock of the protocol's `side_seconds`.
        counters: monotonic counters, such as a clock or an energy counter.
    """
    side = _Side(opener, protocol, cpu, time.perf_counter, protocol.side_seconds)
    started = time.perf_counter()
    found: list[list[float]] = []
    while True:
        with side.opened(len(found)):
            before = [counter() for counter in counters]
            side.run()
            found.append([(counter() - start) / side.count for counter, start in zip(counters, before, strict=True)])
        if is_done(np.asarray(found)[:, 0], protocol, time.perf_counter() - started):
            return np.asarray(found), side.count


def is_done(values: NDArray[np.float64], protocol: TimingProtocol, elapsed: float) -> bool:
    """Return True if `values` [rounds] are enough: the interval of their median is narrow, or the time is up."""
    if len(values) < protocol.min_sessions:
        return False
    low, high = bootstrap_interval(values)
    return elapsed >= protocol.budget_seconds or (high - low) < protocol.half_width * (high + low)


def _is_known(rounds: Rounds, num_sides: int, protocol: TimingProtocol, elapsed: float) -> bool:
    """Return True if the ratio of every side is precise enough at full speed, or the time is up."""
    if len(rounds.fastest) < protocol.min_sessions:
        return False
    if elapsed >= protocol.budget_seconds:
        return True
    others = range(1, num_sides)
    return all(rounds.slowness(side) == 1.0 and is_done(rounds.ratios(side), protocol, elapsed) for side in others)


@dataclass(slots=True)
class _Side:
    """One of the compared models: its current session, and the number of calls per block."""

    opener: Opener
    protocol: TimingProtocol
    cpu: Clock
    wall: Clock
    shortest: float
    count: int = 0
    num_blocks: int = 0
    call: RuntimeCall | None = None

    @contextmanager
    def opened(self, number: int) -> Iterator[None]:
        """Open a new, warmed-up session for round `number`, with randomly shifted memory."""
        lengths = np.random.default_rng(number).integers(1, PAD_BYTES, NUM_PADS)
        pads = [bytearray(int(length)) for length in lengths]
        self.call = self.opener()
        self._warm_up(self.call)
        if not self.count:
            seconds = self._repeats()
            self.num_blocks = min(max(math.ceil(4 * self.protocol.side_seconds / seconds), MIN_BLOCKS), MAX_BLOCKS)
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

    def seconds(self) -> tuple[float, float]:
        """Return CPU and wall seconds per call."""
        wall, cpu = self.wall(), self.cpu()
        self.run()
        return (self.cpu() - cpu) / self.count, (self.wall() - wall) / self.count

    def _warm_up(self, call: RuntimeCall) -> None:
        """Warm up: call a slow model twice, a fast one more often."""
        started = self.cpu()
        for number in range(NUM_WARM_UPS):
            call()
            if number > 0 and self.cpu() - started > self.protocol.side_seconds:
                return

    def _repeats(self) -> float:
        """Find how many calls take at least `shortest` seconds, and return how long they take."""
        self.count = 1
        while (spent := self.seconds()[0] * self.count) < self.shortest:
            growth = self.shortest / max(spent, 1e-9)
            self.count = max(self.count + 1, int(self.count * min(1.1 * growth, 10.0)))
        return spent


def _add_round(rounds: Rounds, sides: Sequence[_Side], number: int) -> None:
    order = np.random.default_rng(number).permutation(len(sides))  # allocate memory in a different order each time
    with ExitStack() as stack:
        for index in order:
            stack.enter_context(sides[index].opened(number * len(sides) + int(index)))
        blocks = [list[tuple[float, float]]() for _ in sides]
        for turn in range(max(side.num_blocks for side in sides)):
            for index in order[:: 1 if turn % 2 == 0 else -1]:
                if turn < sides[index].num_blocks:
                    blocks[index].append(sides[index].seconds())
    rounds.fastest.append(tuple(min(cpu for cpu, _ in times) for times in blocks))
    rounds.cpu.append(tuple(float(np.mean([cpu for cpu, _ in times])) for times in blocks))
    rounds.wall.append(tuple(float(np.mean([wall for _, wall in times])) for times in blocks))


@contextmanager
def _on_core(cores: Sequence[int], number: int) -> Iterator[None]:
    """Pin this thread to the core of round `number` inside the block."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores[number % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
