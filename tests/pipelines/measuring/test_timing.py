"""The protocol finds a known factor on a simulated clock, whatever the machine and the sessions do meanwhile."""

import os
import time
from collections.abc import Callable

import numpy as np
import pytest

from paretta.pipelines.measuring.timing import Opener, TimingProtocol, interleave, sample, usable_cores


class Clock:
    """CPU time that passes only when something is called."""

    def __init__(self, *, noise: float = 0.0, drift: float = 0.0, luck: float = 0.0, seed: int = 0) -> None:
        self.now, self.noise, self.drift, self.luck = 0.0, noise, drift, luck
        self.generator = np.random.default_rng(seed)
        self.calls: list[str] = []
        self.sessions: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: float) -> Opener:
        """Each session has a random speed, with a spread of `luck`."""

        def opened() -> Callable[[], None]:
            self.sessions.append(name)
            own = seconds * np.exp(self.luck * self.generator.standard_normal())

            def call() -> None:
                self.calls.append(name)
                self.now += own * (1 + self.noise * self.generator.exponential()) * (1 + self.drift * self.now)

            return call

        return opened


def measured(clock: Clock, factor: float, protocol: TimingProtocol | None = None) -> tuple[float, float, float]:
    sides = [clock.work("b", 2e-3), clock.work("a", 2e-3 * factor)]
    rounds = interleave(sides, protocol or TimingProtocol(), cpu=clock, wall=clock)
    return float(np.median(rounds.ratios())), *rounds.interval(spread=0.0)


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 2.0])
def test_a_known_factor_is_found_exactly_without_noise(factor: float) -> None:
    assert measured(Clock(), factor) == pytest.approx((factor, factor, factor))


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_known_factor_lies_in_the_interval_under_noise(factor: float) -> None:
    ratio, low, high = measured(Clock(noise=0.3), factor, TimingProtocol(budget_seconds=100.0))
    assert low <= ratio <= high
    assert low * 0.99 <= factor <= high * 1.01
    assert (high - low) / 2 < 0.015 * ratio * 1.05


def test_a_machine_that_slows_down_steadily_does_not_move_the_ratio() -> None:
    assert measured(Clock(drift=0.5), 2.0)[0] == pytest.approx(2.0, rel=2e-3)


def test_what_differs_between_sessions_is_in_the_interval() -> None:
    protocol = TimingProtocol(budget_seconds=3.0)
    found = [measured(Clock(noise=0.1, luck=0.03, seed=seed), 1.0, protocol) for seed in range(60)]
    covered = sum(low <= 1.0 <= high for _, low, high in found)
    # 60 draws at 95 % give 52 or fewer once in a hundred; blocks of one pair of sessions would give about 15
    assert covered >= 52


def test_sides_are_interleaved_long_enough_and_of_fresh_sessions() -> None:
    clock = Clock()
    rounds = interleave([clock.work("b", 4e-3), clock.work("a", 1e-3)], TimingProtocol(), cpu=clock, wall=clock)
    assert len(rounds.fastest) == 8
    assert sorted("".join(clock.sessions)) == sorted("ab" * 8)
    assert {"".join(clock.sessions[turn : turn + 2]) for turn in range(0, 16, 2)} == {"ab", "ba"}, "drawn anew"
    last = "".join(clock.calls)[-50:]
    assert (last.count("a"), last.count("b")) == (40, 10), "40 ms of each: blocks of one call"
    assert last in ("abba" * 5 + "a" * 30, "baab" * 5 + "a" * 30)


def test_more_sides_share_the_reference_and_its_rounds() -> None:
    clock = Clock(luck=0.02, noise=0.2)
    sides = [clock.work("b", 2e-3), clock.work("a", 1e-3), clock.work("c", 3e-3)]
    rounds = interleave(sides, TimingProtocol(), cpu=clock, wall=clock)
    assert [float(np.median(rounds.ratios(side))) for side in (1, 2)] == pytest.approx([0.5, 1.5], rel=0.03)
    assert rounds.seconds(2) == pytest.approx(3e-3, rel=0.03)


@pytest.mark.skipif(len(usable_cores()) < 2, reason="there are no two cores to choose among")
def test_rounds_take_turns_on_the_cores_and_let_them_go_again() -> None:
    used, before = list[set[int]](), os.sched_getaffinity(0)

    def opened() -> Callable[[], None]:
        used.append(os.sched_getaffinity(0))
        return lambda: None

    ticks = iter(range(1_000_000))
    protocol = TimingProtocol(side_seconds=1.0, block_seconds=1.0)
    interleave([opened, opened], protocol, cpu=lambda: float(next(ticks)), wall=lambda: 0.0, cores=usable_cores()[:2])
    first, second = ({core} for core in usable_cores()[:2])
    assert used == [first, first, second, second] * 4
    assert os.sched_getaffinity(0) == before


def test_the_budget_ends_a_hopeless_measurement() -> None:
    clock = Clock(noise=50.0)
    protocol = TimingProtocol(budget_seconds=5.0)
    rounds = interleave([clock.work("a", 1e-3), clock.work("b", 1e-3)], protocol, cpu=clock, wall=clock)
    low, high = rounds.interval()
    assert len(rounds.fastest) >= 8
    assert clock.now > 5.0
    assert (high - low) / (high + low) > 0.015


def burn(times: int) -> Opener:
    """Calls that do the same arithmetic once or more often."""
    values = np.linspace(1.0, 2.0, 20_000)

    def call() -> None:
        for _ in range(times):
            np.sqrt(values)

    return lambda: call


def test_twice_the_work_takes_twice_the_time() -> None:
    rounds = interleave([burn(1), burn(2)], TimingProtocol(budget_seconds=2.0))
    assert 1.6 < float(np.median(rounds.ratios())) < 2.5, "wide, as the machine may be busy"
    assert float(np.median(rounds.wall)) > 0.0


def test_a_sample_counts_what_a_call_adds_to_each_counter() -> None:
    total = {"J": 0.0, "s": 0.0}

    def call() -> None:
        total["J"] += 3.0
        total["s"] += 0.004

    counters = (lambda: total["J"], lambda: total["s"])
    found, count = sample(lambda: call, TimingProtocol(), cpu=counters[1], counters=counters)
    assert count == 3
    assert found == pytest.approx(np.array([[3.0, 0.004]] * 8))


def test_the_clocks_of_the_machine_are_the_default() -> None:
    before = time.thread_time()
    rounds = interleave([burn(1), burn(1)], TimingProtocol(side_seconds=1e-4, budget_seconds=1e-3))
    assert 0.0 < sum(map(sum, rounds.fastest)) <= sum(map(sum, rounds.cpu)) < time.thread_time() - before
