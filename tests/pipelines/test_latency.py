"""The protocol finds a known factor on a simulated clock, whatever the machine does meanwhile."""

from collections.abc import Callable

import numpy as np
import pytest

from pipelines.meters.latency import Protocol, interleave, machine


class Clock:
    """CPU time that passes only when something is called."""

    def __init__(self, *, noise: float = 0.0, drift: float = 0.0) -> None:
        self.now, self.noise, self.drift = 0.0, noise, drift
        self.generator = np.random.default_rng(0)
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.calls.append(name)
            jitter = 1 + self.noise * self.generator.exponential()
            self.now += seconds * jitter * (1 + self.drift * self.now)

        return call


def measured(clock: Clock, factor: float, protocol: Protocol | None = None) -> tuple[float, float, float]:
    blocks = interleave(
        clock.work("a", 1e-3 * factor), clock.work("b", 1e-3), protocol or Protocol(), cpu=clock, wall=clock
    )
    return float(np.median(blocks.ratios())), *blocks.interval()


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 2.0])
def test_a_known_factor_is_found_exactly_without_noise(factor: float) -> None:
    assert measured(Clock(), factor) == pytest.approx((factor, factor, factor))


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_known_factor_lies_in_the_interval_under_noise(factor: float) -> None:
    ratio, low, high = measured(Clock(noise=0.3), factor)
    assert low <= ratio <= high
    assert low * 0.99 <= factor <= high * 1.01
    assert (high - low) / 2 < 0.015 * ratio * 1.05


def test_a_machine_that_slows_down_steadily_does_not_move_the_ratio() -> None:
    assert measured(Clock(drift=0.5), 2.0)[0] == pytest.approx(2.0, rel=2e-3)


def test_sides_are_interleaved_and_long_enough() -> None:
    clock = Clock()
    blocks = interleave(clock.work("a", 1e-3), clock.work("b", 4e-3), Protocol(), cpu=clock, wall=clock)
    order = [name for name, before in zip(clock.calls, ["", *clock.calls[:-1]], strict=True) if name != before]
    # two calibrations, then a b b a a b b a ...: neighbours of a kind run together
    assert "".join(order) == "ab" + "ab" * (len(blocks.candidate)) + "a"
    tail = "".join(clock.calls)
    assert "a" * 10 + "b" * 6 + "a" * 10 in tail, "10 ms a side: ten calls of 1 ms, three of 4 ms"
    assert len(blocks.candidate) == 10


def test_the_budget_ends_a_hopeless_measurement() -> None:
    clock = Clock(noise=50.0)
    blocks = interleave(
        clock.work("a", 1e-3), clock.work("b", 1e-3), Protocol(budget_seconds=5.0), cpu=clock, wall=clock
    )
    assert len(blocks.candidate) >= 10
    assert not blocks.is_settled(0.015)


def test_the_machine_is_described() -> None:
    facts = machine()
    assert set(facts) == {"cpu", "cpu_flags", "runtime"}
    assert str(facts["runtime"]).startswith("onnxruntime ")
