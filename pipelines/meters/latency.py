"""CPU time of the artifact as a ratio to the uncompressed one, both in the same runtime and process."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import Field

from pipelines.artifact import MODEL, session
from pipelines.meter import Meter, MeterBench
from pipelines.statistics import block_ratios, bootstrap_interval
from search_spaces.objectives import Detail, Reading

Call: TypeAlias = Callable[[], object]
Clock: TypeAlias = Callable[[], float]

NUM_WARM_UPS = 5
MAX_WALL_CALLS = 200
# the instructions that decide how fast integers are
TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")


@dataclass(frozen=True, slots=True)
class Protocol:
    """How long and how exactly to measure.

    Args:
        side_seconds: the shortest CPU time of one side of a block.
        min_blocks: before the interval is trusted.
        half_width: stop when the interval's half width is below this share of the estimate.
        budget_seconds: stop after this much wall time, once there are `min_blocks`.
    """

    side_seconds: float = 0.010
    min_blocks: int = 10
    half_width: float = 0.015
    budget_seconds: float = 10.0


@dataclass(slots=True)
class Blocks:
    """CPU seconds a call in each block, candidate and reference, and the wall seconds of the candidate's calls."""

    candidate: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def ratios(self) -> NDArray[np.float64]:
        """Return candidate over reference of each block, [blocks]."""
        return block_ratios(np.asarray(self.candidate), np.asarray(self.reference))

    def interval(self) -> tuple[float, float]:
        """Return the 95 % bootstrap interval of the median ratio."""
        return bootstrap_interval(self.ratios())

    def is_settled(self, half_width: float) -> bool:
        """Tell whether the interval is narrow enough."""
        low, high = self.interval()
        return (high - low) / 2 < half_width * (high + low) / 2


class Latency(Meter):
    """Ratio of CPU times, candidate over baseline: below 1 is faster. One thread, real inputs of the split.

    CPU time, not wall time, because it stays within two per cent on a busy machine where wall time moves severalfold.
    """

    kind: Literal["latency"] = "latency"
    unit: Literal["ratio"] = "ratio"
    goal: Literal["min"] = "min"
    batch_size: int = Field(1, ge=1, description="the inputs per call, such as 1")
    budget_seconds: float = Field(10.0, gt=0, description="the longest wall time of one reading in s, such as 10")

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the median ratio over interleaved blocks with its interval; absolute times are in the details."""
        if bench.baseline is None:
            return Reading.not_measured(self.unit, "there is no baseline artifact to compare with")
        batch = np.take(bench.inputs, range(self.batch_size), axis=0, mode="wrap")
        candidate, reference = _call(artifact, batch), _call(bench.baseline, batch)
        blocks = interleave(candidate, reference, Protocol(budget_seconds=self.budget_seconds))
        low, high = blocks.interval()
        ratio = float(np.median(blocks.ratios()))
        details = {**_times(blocks, candidate), **machine(), "batch_size": self.batch_size, "threads": 1}
        return Reading(ratio, self.unit, low=low, high=high, num_samples=len(blocks.candidate), details=details)


def interleave(
    candidate: Call,
    reference: Call,
    protocol: Protocol,
    *,
    cpu: Clock = time.thread_time,
    wall: Clock = time.perf_counter,
) -> Blocks:
    """Time both in blocks of candidate, reference, reference, candidate until the ratio is known well enough.

    The order cancels a linear drift of the machine's speed inside a block; the ratio inside each block cancels slow
    drift between blocks.

    Args:
        candidate: what is judged.
        reference: what it is compared with.
        protocol: when to stop.
        cpu: the clock of the ratio; counts this thread's work only.
        wall: the clock of the time budget.
    """
    sides = [_Side(call, _repeats(call, protocol, cpu), cpu, wall) for call in (candidate, reference)]
    blocks, started = Blocks(), wall()
    while True:
        _add_block(blocks, *sides)
        if len(blocks.candidate) < protocol.min_blocks:
            continue
        if wall() - started >= protocol.budget_seconds or blocks.is_settled(protocol.half_width):
            return blocks


def machine() -> dict[str, Detail]:
    """Return what the time depends on: CPU model, its telling flags, runtime and its version."""
    model, flags = platform.processor() or platform.machine(), set[str]()
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "model name":
            model = value
        if name in ("flags", "Features"):
            flags |= set(value.split())
    return {
        "cpu": model,
        "cpu_flags": " ".join(flag for flag in TELLING_FLAGS if flag in flags),
        "runtime": f"onnxruntime {onnxruntime.__version__}",
    }


def _call(artifact: Path, batch: NDArray[np.generic]) -> Call:
    opened = session(artifact / MODEL)
    feed = {opened.get_inputs()[0].name: batch}
    return lambda: opened.run(None, feed)


def _repeats(call: Call, protocol: Protocol, cpu: Clock) -> int:
    """Return how many calls take `side_seconds`, after the warm-up."""
    for _ in range(NUM_WARM_UPS):
        call()
    count = 1
    while (spent := _spent(call, count, cpu)) < protocol.side_seconds:
        growth = protocol.side_seconds / max(spent, 1e-9)
        count = max(count + 1, int(count * min(1.1 * growth, 10.0)))
    return count


def _spent(call: Call, count: int, clock: Clock) -> float:
    started = clock()
    for _ in range(count):
        call()
    return clock() - started


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two that are compared, and how often it is called at a time."""

    call: Call
    count: int
    cpu: Clock
    wall: Clock

    def seconds(self) -> tuple[float, float]:
        """Return CPU and wall seconds a call."""
        wall_started = self.wall()
        cpu = _spent(self.call, self.count, self.cpu)
        return cpu / self.count, (self.wall() - wall_started) / self.count


def _add_block(blocks: Blocks, candidate: _Side, reference: _Side) -> None:
    (first, second, third, last) = [side.seconds() for side in (candidate, reference, reference, candidate)]
    blocks.candidate.append((first[0] + last[0]) / 2)
    blocks.reference.append((second[0] + third[0]) / 2)
    blocks.wall.append((first[1] + last[1]) / 2)


def _times(blocks: Blocks, candidate: Call) -> dict[str, Detail]:
    """Return absolute times a call; `contention` is wall over CPU time, about 1 where the machine was free."""
    low, high = blocks.interval()
    seconds, wall = float(np.median(blocks.candidate)), float(np.median(blocks.wall))
    quantiles = np.quantile(_wall_times(candidate), [0.5, 0.9, 0.99])
    return {
        "seconds": seconds,
        "baseline_seconds": float(np.median(blocks.reference)),
        "wall_seconds": wall,
        "wall_p50_seconds": float(quantiles[0]),
        "wall_p90_seconds": float(quantiles[1]),
        "wall_p99_seconds": float(quantiles[2]),
        "contention": wall / seconds,
        "contended": wall / seconds > 1.2,
        "half_width": (high - low) / (high + low),
    }


def _wall_times(call: Call) -> NDArray[np.float64]:
    return np.asarray([_spent(call, 1, time.perf_counter) for _ in range(MAX_WALL_CALLS)])
