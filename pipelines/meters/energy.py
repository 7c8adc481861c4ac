"""Energy of one sample in joules: from energy counters if there are any, else CPU seconds times the given watts."""

import time
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from paretta.pipelines.measuring.energy_counters import Joules, nvml, rapl
from paretta.pipelines.measuring.intervals import bootstrap_interval
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.measuring.timing import Clock, TimingProtocol, sample
from paretta.pipelines.meter import MeterBench
from paretta.search_spaces.objectives.reading import Reading

# RAPL updates its counter about every millisecond, NVML every 20 to 100 ms
SIDE_SECONDS = {"rapl": 0.25, "nvml": 2.0, "cpu_seconds x W": 0.030}


class Energy(ServedMeter):
    """Joules per sample over a measured number of inferences; ``source`` in the details names their source.

    Counters measure the whole package or device, including idle power and other work. Without counters it is CPU
    seconds times `watts_per_core`, only an estimate, which ranks models like their CPU time.
    """

    is_timed: ClassVar[bool] = True

    kind: Literal["energy"] = "energy"
    unit: Literal["J"] = "J"
    goal: Literal["min"] = "min"
    watts_per_core: float | None = Field(
        default=None, gt=0, description="the power of one busy core in W, for machines without counters, such as 6"
    )
    budget_seconds: float = Field(
        default=10.0, gt=0, description="the longest wall time of one reading in s, such as 10"
    )

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the median over rounds of fresh sessions with its interval."""
        if missing := self.unavailable(artifact, bench):
            return missing
        source, joules = self.counter()
        if joules is None:
            return Reading.not_measured(self.unit, source)
        protocol = TimingProtocol(side_seconds=SIDE_SECONDS[source], budget_seconds=self.budget_seconds)
        rounds, calls = sample(self.opener(artifact, bench), protocol, cpu=time.perf_counter, counters=(joules,))
        values = rounds[:, 0] / self.batch_size
        low, high = bootstrap_interval(values)
        details = {"source": source, "inferences": calls * len(values), **self.facts()}
        if source == "cpu_seconds x W":
            details["watts_per_core"] = self.watts_per_core or 0.0
        value = float(np.median(values))
        return Reading(value, self.unit, low=low, high=high, num_samples=len(values), details=details)

    def counter(self) -> tuple[str, Joules | None]:
        """Return the source and a counter of joules, or the reason why there is none."""
        if self.place == "cuda":
            found = nvml()
            return ("nvml", found) if found else ("NVML has no energy counter here", None)
        if found := rapl():
            return "rapl", found
        if self.watts_per_core is None:
            return "no RAPL counter can be read here; set watts_per_core to estimate from CPU seconds", None
        return "cpu_seconds x W", _estimated(self.watts_per_core, self.clock()[1])


def _estimated(watts: float, cpu: Clock) -> Joules:
    return lambda: watts * cpu()
