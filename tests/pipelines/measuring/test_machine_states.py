"""Intervals of a latency hold the true ratio on simulated machines whose cores are slow for tens of seconds."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from paretta.pipelines.measuring.intervals import FULL_SPEED, bootstrap_interval
from paretta.pipelines.measuring.timing import Opener, TimingProtocol, interleave

TRUE = 0.535
REFERENCE_S, CANDIDATE_S = 2e-3, 2e-3 * TRUE
SLOWER = {"reference": 1.5, "candidate": 1.69}  # the ratio is 0.603 while the core is slow
NUM_READINGS = 10
STEP_S = 0.004


class Machine:
    """One core that another guest of its host slows down for 20 s on average, with or without gaps of 4 ms.

    Args:
        seed: of the states.
        slow: share of the time in which it is slow.
        gaps: share of the slow time in which it is not.
    """

    def __init__(self, seed: int, *, slow: float = 0.4, gaps: float = 0.1) -> None:
        self.generator = np.random.default_rng(seed)
        self.now, self.slow, self.gaps = 0.0, slow, gaps
        self.is_slow, self.until = bool(self.generator.random() < slow), 0.0
        self.step, self.gap = -1, False

    def __call__(self) -> float:
        return self.now

    def factor(self, side: str) -> float:
        if self.now >= self.until:
            self.is_slow = bool(self.generator.random() < self.slow)
            self.until = self.now + self.generator.exponential(20.0)
        if (step := int(self.now / STEP_S)) != self.step:
            self.step, self.gap = step, bool(self.generator.random() < self.gaps)
        return SLOWER[side] if self.is_slow and not self.gap else 1.0

    def opens(self, side: str, seconds: float) -> Opener:
        def opened() -> Callable[[], None]:
            own = seconds * math.exp(0.01 * self.generator.standard_normal())

            def call() -> None:
                self.now += own * self.factor(side) * (1 + 0.02 * self.generator.exponential())

            return call

        return opened

    def sides(self) -> list[Opener]:
        return [self.opens("reference", REFERENCE_S), self.opens("candidate", CANDIDATE_S)]


def in_a_row(machine: Machine, *, known: float = math.inf) -> list[tuple[float, float, float]]:
    """Return value, low and high of readings 15 s apart; each knows the fastest reference before it."""
    found = []
    for _ in range(NUM_READINGS):
        rounds = interleave(machine.sides(), TimingProtocol(budget_seconds=3.0), cpu=machine, wall=machine, known=known)
        known = min(known, rounds.seconds(0))
        found.append((float(np.median(rounds.ratios())), *rounds.interval()))
        machine.now += 15.0
    return found


def by_medians_of_one_visit(machine: Machine) -> list[tuple[float, float, float]]:
    """Return the same by the usual way: the median over sessions of times of 10 ms, bootstrapped within one visit."""
    found = []
    for _ in range(NUM_READINGS):
        ratios = []
        for _ in range(12):
            seconds = []
            for opener, calls in zip(machine.sides(), (5, 10), strict=True):
                call, begun = opener(), machine.now
                for _ in range(4 * calls):
                    call()
                seconds.append((machine.now - begun) / calls)
            ratios.append(seconds[1] / seconds[0])
        found.append((float(np.median(ratios)), *bootstrap_interval(np.array(ratios))))
        machine.now += 15.0
    return found


def covered(found: list[tuple[float, float, float]], truth: float) -> float:
    return float(np.mean([low <= truth <= high for _, low, high in found]))


@pytest.mark.parametrize(("slow", "gaps"), [(0.4, 0.1), (0.2, 0.0)])
def test_nine_in_ten_intervals_hold_the_grand_median_and_the_truth(slow: float, gaps: float) -> None:
    machines = [in_a_row(Machine(seed, slow=slow, gaps=gaps), known=REFERENCE_S) for seed in range(8)]
    by_median = [covered(found, float(np.median([value for value, _, _ in found]))) for found in machines]
    assert np.mean(by_median) >= 0.9
    assert np.mean([covered(found, TRUE) for found in machines]) >= 0.95
    halves = [(high - low) / (high + low) for found in machines for _, low, high in found]
    assert np.median(halves) <= 0.03


def test_medians_of_one_visit_miss_it_on_the_same_machines() -> None:
    machines = [by_medians_of_one_visit(Machine(seed)) for seed in range(8)]
    by_median = [covered(found, float(np.median([value for value, _, _ in found]))) for found in machines]
    assert np.mean(by_median) < 0.75
    halves = [(high - low) / (high + low) for found in machines for _, low, high in found]
    assert np.median(halves) < 0.03, "they are as sure of it"


def test_a_visit_to_a_slow_core_says_that_it_is_less_sure() -> None:
    machine = Machine(0, slow=1.0, gaps=0.0)
    protocol = TimingProtocol(budget_seconds=1.0)
    rounds = interleave(machine.sides(), protocol, cpu=machine, wall=machine, known=REFERENCE_S)
    assert rounds.slowness() == pytest.approx(1.5, rel=0.05)
    low, high = rounds.interval()
    assert low < TRUE < high
    assert math.log(high / low) == pytest.approx(2 * math.log(1.5), rel=0.2)
    unaware = interleave(machine.sides(), protocol, cpu=machine, wall=machine)
    assert unaware.slowness() == 1.0, "without an earlier reading nothing tells it apart from a slower machine"


def test_a_few_rounds_at_full_speed_are_enough() -> None:
    machine = Machine(3, slow=0.9, gaps=0.02)
    rounds = interleave(machine.sides(), TimingProtocol(budget_seconds=30.0), cpu=machine, wall=machine)
    times = np.asarray(rounds.fastest)[rounds.kept()]
    assert (times <= FULL_SPEED * 1.05 * np.array([REFERENCE_S, CANDIDATE_S])).all()
    assert float(np.median(rounds.ratios())) == pytest.approx(TRUE, rel=0.03)
