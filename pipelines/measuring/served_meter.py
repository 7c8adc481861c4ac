"""Base classes of meters that run the artifact: batch size, threads, runtime and device, and fresh processes."""

import json
import os
import platform
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import Field

from paretta.pipelines.artifact import MODEL
from paretta.pipelines.feeds import Feeds, feed_batch, save_feeds
from paretta.pipelines.measuring.intervals import median_interval
from paretta.pipelines.measuring.ort_session import Device, NoSuchDevice, open_call
from paretta.pipelines.measuring.timing import Clock, Opener
from paretta.pipelines.meter import Meter, MeterBench
from paretta.search_spaces.objectives.reading import Detail, Reading

START_SECONDS = 300.0
# the instruction sets that determine the speed of integer kernels
TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")


class ServedMeter(Meter, ABC):
    """A meter that runs the artifact, with the settings of the run."""

    runs_on: ClassVar[tuple[Device, ...]] = ("cpu", "cuda")

    batch_size: int = Field(default=1, ge=1, description="the inputs per call, such as 1")
    threads: int = Field(default=1, ge=1, description="the threads that compute, such as 1")
    runtime: Literal["onnxruntime"] = Field(default="onnxruntime", description="what runs the model; there is only one")
    device: Device = Field(default="cpu", description="where it computes: cpu or cuda")

    def batch(self, bench: MeterBench) -> Feeds:
        """Return `batch_size` inputs of the split, repeated where it has fewer."""
        return feed_batch(bench.inputs, self.batch_size)

    def opener(self, artifact: Path, bench: MeterBench) -> Opener:
        """Return a function that opens a new session of the artifact."""
        batch = self.batch(bench)
        return lambda: open_call(artifact / MODEL, batch, threads=self.threads, device=self.device)

    def unavailable(self, artifact: Path, bench: MeterBench) -> Reading | None:
        """Return a reading with the reason why nothing can be measured here, or None if it can."""
        if self.device not in self.runs_on:
            return Reading.not_measured(self.unit, f"{self.kind} is not read on {self.device}")
        if self.device == "cpu":
            return None  # an error on a CPU is the artifact's fault, and fails the trial
        try:
            self.opener(artifact, bench)()
        except NoSuchDevice as error:
            return Reading.not_measured(self.unit, str(error))
        return None

    def clock(self) -> tuple[str, Clock]:
        """Return the clock that measures the computation, and its name.

        With one thread it is the thread's CPU time; with several it is the process's CPU time, which measures work, not
        waiting; on a device it is wall time around a call that waits for the device.
        """
        if self.device != "cpu":
            return "wall, synchronised", time.perf_counter
        return ("thread CPU", time.thread_time) if self.threads == 1 else ("process CPU", time.process_time)

    def facts(self) -> dict[str, Detail]:
        """Return the settings that the number depends on."""
        told = {"batch_size": self.batch_size, "threads": self.threads, "device": self.device}
        return {**told, "clock": self.clock()[0], **machine()}


def machine() -> dict[str, Detail]:
    """Return what the time depends on: the machine's name, CPU model, relevant CPU flags, runtime and its version."""
    model, flags = platform.processor() or platform.machine(), set[str]()
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "model name":
            model = value
        if name in ("flags", "Features"):
            flags |= set(value.split())
    return {
        "machine": platform.node(),
        "cpu": model,
        "cpu_flags": " ".join(flag for flag in TELLING_FLAGS if flag in flags),
        "runtime": f"onnxruntime {onnxruntime.__version__}",
    }


class FreshStartMeter(ServedMeter, ABC):
    """A meter of what new processes report that only serve the artifact."""

    runs_on: ClassVar[tuple[Device, ...]] = ("cpu",)

    starts: int = Field(default=6, ge=6, description="the fresh processes, at least 6, which an interval needs")

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the median over the starts with its interval between order statistics."""
        if missing := self.unavailable(artifact, bench):
            return missing
        told = _fresh_starts(self, artifact, bench)
        values = told[self.value_of]
        low, high = median_interval(values) or (None, None)
        details = {**self.beside(told), **self.facts(), "clock": self.counted_by}
        return Reading(
            float(np.median(values)), self.unit, low=low, high=high, num_samples=len(values), details=details
        )

    value_of: ClassVar[str]
    """What is read of that which `paretta.pipelines.measuring.cold_start` tells."""

    counted_by: ClassVar[str] = "none"
    """The clock, if it is a time."""

    @abstractmethod
    def beside(self, told: Mapping[str, NDArray[np.float64]]) -> dict[str, Detail]:
        """Return the details, from all values that the starts reported, by name [starts]."""


def _fresh_starts(meter: FreshStartMeter, artifact: Path, bench: MeterBench) -> dict[str, NDArray[np.float64]]:
    """Start serving processes one after another and return what they reported, see `cold_start`.

    A value that the kernel does not report is nan.
    """
    with TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        save_feeds(inputs, meter.batch(bench))
        told = [_fresh_start(artifact / MODEL, inputs, meter.threads) for _ in range(meter.starts)]
    return {name: np.array([start[name] for start in told], np.float64) for name in told[0]}


def _fresh_start(model: Path, inputs: Path, threads: int) -> dict[str, float | None]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "paretta.pipelines.measuring.cold_start",
        str(model.absolute()),
        str(inputs),
        str(threads),
    ]
    # our own interpreter and module; nothing of the command comes from outside
    done = subprocess.run(  # noqa: S603
        command,
        env=environment,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=START_SECONDS,
    )
    told: dict[str, float | None] = json.loads(done.stdout)
    return told
