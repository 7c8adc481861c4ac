"""CPU time of the artifact as a ratio to the uncompressed one, both in the same runtime and process."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from paretta.pipelines.artifact import MODEL, layers_in_floats
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.measuring.timing import Opener, Rounds, TimingProtocol, interleave, usable_cores
from paretta.pipelines.meter import MeterBench
from paretta.pipelines.runtime import RuntimeCall
from paretta.search_spaces.objectives.reading import Detail, Reading

MAX_WALL_CALLS = 200
MAX_WALL_SECONDS = 1.0
HALF_WIDTH: Final = 0.010  # of the interval over the rounds of one visit; `timing.VISIT_SPREAD` is added
MUCH_CONTENTION: Final = 1.2
BASELINE_SECONDS: Final = "baseline_seconds"
"""The baseline's time in a reading's details, and the shortest of earlier readings in the facts of a later one."""


def baseline_fact(label: str) -> str:
    """Return the name of the fact with the shortest time of the baseline on the runtime that a label names.

    >>> baseline_fact("latency"), baseline_fact("latency@openvino")
    ('baseline_seconds', 'baseline_seconds@openvino')
    """
    _, at, runtime = label.partition("@")
    return f"{BASELINE_SECONDS}{at}{runtime}"


class Latency(ServedMeter):
    """Ratio of times, candidate over baseline, on real inputs of the split: below 1 is faster.

    The details hold the absolute times, the shares of multiplications and weights that integer kernels process, and the
    names of the layers that compute in floats.

    It uses CPU time of the fastest short blocks, not wall time: the time on a core that is not shared with other guests
    of the host. Sharing can halve the speed for tens of seconds, of small models more than of large ones. Batch size,
    threads and device apply to both models. On CUDA it is wall time around a call that waits for the device, with
    inputs and outputs kept there; that path has not been run on a GPU.
    """

    compares: ClassVar[bool] = True
    changed_by: ClassVar[frozenset[str] | None] = frozenset({"chosen by value"})
    is_timed: ClassVar[bool] = True

    kind: Literal["latency"] = "latency"
    unit: Literal["ratio"] = "ratio"
    goal: Literal["min"] = "min"
    budget_seconds: float = Field(
        default=10.0, gt=0, description="the longest wall time of one reading in s, such as 10"
    )

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the median ratio over rounds of fresh sessions with its interval; absolute times are details."""
        return self.read_together([artifact], bench)[0]

    def read_together(self, artifacts: Sequence[Path], bench: MeterBench) -> list[Reading]:
        """Return the readings of several artifacts, all timed with the baseline in the same rounds.

        ``beside`` in the details is the number of other artifacts.
        """
        if bench.baseline is None:
            missing = Reading.not_measured(self.unit, "there is no baseline artifact to compare with")
            return [missing for _ in artifacts]
        refused = {folder: why for folder in artifacts if (why := self.unavailable(folder, bench))}
        running = [folder for folder in dict.fromkeys(artifacts) if folder not in refused]
        timed = self._timed(running, bench.baseline, bench) if running else {}
        return [refused.get(folder) or timed[folder] for folder in artifacts]

    def _timed(self, artifacts: Sequence[Path], baseline: Path, bench: MeterBench) -> dict[Path, Reading]:
        openers = [self.opener(folder, bench) for folder in (baseline, *artifacts)]
        protocol = TimingProtocol(half_width=HALF_WIDTH, budget_seconds=self.budget_seconds * (1 + len(artifacts)) / 2)
        clock, known = self.clock()[1], bench.facts.get(baseline_fact(self.label), math.inf)
        cores = usable_cores() if clock is time.thread_time else ()
        rounds = interleave(openers, protocol, cpu=clock, cores=cores, known=known)
        return {
            artifact: self._reading(rounds, side, artifact, opener, bench)
            for side, (artifact, opener) in enumerate(zip(artifacts, openers[1:], strict=True), start=1)
        }

    def _reading(self, rounds: Rounds, side: int, artifact: Path, candidate: Opener, bench: MeterBench) -> Reading:
        ratios, (low, high) = rounds.ratios(side), rounds.interval(side)
        ran = self.runs.kernels(artifact / MODEL, bench.inputs) if self.place == "cpu" else {}
        times = {**_times(rounds, side, candidate), "beside": len(rounds.fastest[0]) - 2}
        details = {**times, **ran, **layers_in_floats(artifact), **self.answers_gap(artifact, bench), **self.facts()}
        return Reading(
            float(np.median(ratios)), self.unit, low=low, high=high, num_samples=len(ratios), details=details
        )


def _times(rounds: Rounds, side: int, candidate: Opener) -> dict[str, Detail]:
    """Return absolute times per call and how disturbed they are.

    ``contention`` is wall time over CPU time, about 1 if a thread had its core to itself; ``slowness`` is the factor by
    which the baseline or the candidate was slower than at full speed. ``contended`` marks readings disturbed by either.
    """
    low, high = rounds.interval(side)
    contention, slowness = rounds.contention(side), rounds.slowness(side)
    quantiles = np.quantile(_wall_times(candidate()), [0.5, 0.9, 0.99])
    return {
        "seconds": rounds.seconds(side),
        BASELINE_SECONDS: rounds.seconds(0),
        "wall_seconds": float(np.median(np.asarray(rounds.wall)[:, side])),
        "wall_p50_seconds": float(quantiles[0]),
        "wall_p90_seconds": float(quantiles[1]),
        "wall_p99_seconds": float(quantiles[2]),
        "contention": contention,
        "slowness": slowness,
        "contended": contention > MUCH_CONTENTION or slowness > 1.0,
        "half_width": (high - low) / (high + low),
    }


def _wall_times(call: RuntimeCall) -> NDArray[np.float64]:
    """Return the wall seconds of single calls; fewer calls of slow models."""
    call()
    started, found = time.perf_counter(), list[float]()
    while len(found) < MAX_WALL_CALLS and (len(found) < 2 or time.perf_counter() - started < MAX_WALL_SECONDS):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return np.asarray(found)
