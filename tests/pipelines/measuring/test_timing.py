"""The protocol finds a known factor on a simulated clock, whatever the machine and the sessions do meanwhile."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from paretta.pipelines.measuring.timing import Opener, TimingProtocol, interleave, sample


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
        """Each session has a speed of its own, as far as `luck` goes."""

        def opened() -> Callable[[], None]:
            self.sessions.append(name)
            own = seconds * np.exp(self.luck * self.generator.standard_normal())

            def call() -> None:
                self.calls.append(name)
                self.now += own * (1 + self.noise * self.generator.exponential()) * (1 + self.drift * self.now)

            return call

        return opened


def measured(clock: Clock, factor: float, protocol: TimingProtocol | None = None) -> tuple[float, float, float]:
    rounds = interleave(
        clock.work("a", 2e-3 * factor), clock.work("b", 2e-3), protocol or TimingProtocol(), cpu=clock, wall=clock
    )
    return float(np.median(rounds.ratios())), *rounds.interval()


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
    rounds = interleave(clock.work("a", 1e-3), clock.work("b", 4e-3), TimingProtocol(), cpu=clock, wall=clock)
    assert len(rounds.candidate) == 8
    assert "".join(clock.sessions) == "abba" * 4
    a, b = "a" * 10, "b" * 3
    one_round = a + b + b + a + b + a + a + b
    assert one_round in "".join(clock.calls), "10 ms a side: ten calls of 1 ms, three of 4 ms; ABBA, then BAAB"
    assert "".join(clock.calls).endswith(one_round)


def test_the_budget_ends_a_hopeless_measurement() -> None:
    clock = Clock(noise=50.0)
    rounds = interleave(
        clock.work("a", 1e-3), clock.work("b", 1e-3), TimingProtocol(budget_seconds=5.0), cpu=clock, wall=clock
    )
    low, high = rounds.interval()
    assert len(rounds.candidate) >= 8
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
    rounds = interleave(burn(2), burn(1), TimingProtocol(budget_seconds=2.0))
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
    rounds = interleave(burn(1), burn(1), TimingProtocol(side_seconds=1e-4, budget_seconds=1e-3))
    spent = sum(map(sum, rounds.candidate)) + sum(map(sum, rounds.reference))
    assert 0.0 < spent < time.thread_time() - before
