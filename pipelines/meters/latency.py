"""CPU time of the artifact as a ratio to the uncompressed one, both in the same runtime and process."""

import time
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from paretta.pipelines.artifact import MODEL, layers_in_floats
from paretta.pipelines.measuring.ort_kernels import integer_kernels
from paretta.pipelines.measuring.ort_session import RuntimeCall
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.measuring.timing import Opener, Rounds, TimingProtocol, interleave
from paretta.pipelines.meter import MeterBench
from paretta.search_spaces.objectives.reading import Detail, Reading

MAX_WALL_CALLS = 200
MAX_WALL_SECONDS = 1.0


class Latency(ServedMeter):
    """Ratio of times, candidate over baseline, on real inputs of the split: below 1 is faster.

    Beside it stand the absolute times, the shares of multiplications and weights that integer kernels really did, and
    the names of the layers that compute in floats.

    CPU time, not wall time, because it stays within two per cent on a busy machine where wall time moves severalfold.
    Batch size, threads and device apply to both sides. On CUDA it is wall time around a call that waits for the device,
    with inputs and outputs kept there; that path has not been run on a GPU.
    """

    kind: Literal["latency"] = "latency"
    unit: Literal["ratio"] = "ratio"
    goal: Literal["min"] = "min"
    budget_seconds: float = Field(10.0, gt=0, description="the longest wall time of one reading in s, such as 10")

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the median ratio over rounds of fresh sessions with its interval; absolute times are details."""
        if bench.baseline is None:
            return Reading.not_measured(self.unit, "there is no baseline artifact to compare with")
        if missing := self.unavailable(artifact, bench):
            return missing
        candidate, reference = self.opener(artifact, bench), self.opener(bench.baseline, bench)
        protocol = TimingProtocol(budget_seconds=self.budget_seconds)
        rounds = interleave(candidate, reference, protocol, cpu=self.clock()[1])
        low, high = rounds.interval()
        ratio = float(np.median(rounds.ratios()))
        ran = integer_kernels(artifact / MODEL).details() if self.device == "cpu" else {}
        details = {**_times(rounds, candidate), **ran, **layers_in_floats(artifact), **self.facts()}
        return Reading(ratio, self.unit, low=low, high=high, num_samples=len(rounds.candidate), details=details)


def _times(rounds: Rounds, candidate: Opener) -> dict[str, Detail]:
    """Return absolute times a call; `contention` is wall over CPU time, about 1 where one thread had the machine."""
    low, high = rounds.interval()
    seconds, wall = float(np.median(rounds.candidate)), float(np.median(rounds.wall))
    quantiles = np.quantile(_wall_times(candidate()), [0.5, 0.9, 0.99])
    return {
        "seconds": seconds,
        "baseline_seconds": float(np.median(rounds.reference)),
        "wall_seconds": wall,
        "wall_p50_seconds": float(quantiles[0]),
        "wall_p90_seconds": float(quantiles[1]),
        "wall_p99_seconds": float(quantiles[2]),
        "contention": wall / seconds,
        "contended": wall / seconds > 1.2,
        "half_width": (high - low) / (high + low),
    }


def _wall_times(call: RuntimeCall) -> NDArray[np.float64]:
    """Return the wall seconds of single calls; fewer of slow ones."""
    call()
    started, found = time.perf_counter(), list[float]()
    while len(found) < MAX_WALL_CALLS and (len(found) < 2 or time.perf_counter() - started < MAX_WALL_SECONDS):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return np.asarray(found)
