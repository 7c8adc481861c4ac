"""Base classes of meters that run the artifact: batch size, threads, runtime and device, and fresh processes."""

import json
import platform
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from paretta.pipelines.artifact import MODEL
from paretta.pipelines.data.feeds import Feeds, feed_batch, save_feeds
from paretta.pipelines.measuring.intervals import median_interval
from paretta.pipelines.measuring.probe_process import process_environment
from paretta.pipelines.measuring.runtime_agreement import Agreement, agreement
from paretta.pipelines.measuring.timing import Clock, Opener, TimingProtocol, sample
from paretta.pipelines.meter import Meter, MeterBench
from paretta.pipelines.runtime import Device, ModelRefused, NoSuchDevice, Runtime, runtime_of, short_name
from paretta.search_spaces.objectives.objective import REFERENCE_RUNTIME
from paretta.search_spaces.objectives.reading import Detail, Reading
from paretta.search_spaces.registry import RUNTIMES
from paretta.search_spaces.user_code import reference_to

START_SECONDS = 300.0
# the instruction sets that determine the speed of integer kernels
TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")


def _known(name: str) -> str:
    return RUNTIMES.known(name, Runtime)


class ServedMeter(Meter, ABC):
    """A meter that runs the artifact, with the settings of the run."""

    runs_on: ClassVar[tuple[Device, ...]] = ("cpu", "cuda")

    batch_size: int = Field(default=1, ge=1, description="the inputs per call, such as 1")
    threads: int = Field(default=1, ge=1, le=1024, description="the threads that compute, such as 1; at most 1024")
    runtime: Annotated[str, AfterValidator(_known)] = Field(
        default=REFERENCE_RUNTIME, description="what runs the model, one of `paretta list runtimes`, such as openvino"
    )
    device: Device = Field(default="cpu", description="where it computes: cpu or cuda")

    @model_validator(mode="after")
    def _require_device(self) -> Self:
        if self.device != "cpu" and self.device not in self.runs.devices:
            raise ValueError(f"{self.runtime} computes on {' and '.join(self.runs.devices)} only, not on {self.device}")
        return self

    @property
    def label(self) -> str:
        """The meter's name; on another runtime than the default with that, such as ``latency@openvino``."""
        return self.kind if self.runtime == REFERENCE_RUNTIME else f"{self.kind}@{short_name(self.runtime)}"

    @property
    def runs(self) -> Runtime:
        """The runtime."""
        return runtime_of(self.runtime)

    @property
    def place(self) -> Device:
        """Where it computes: `device`, or the only device that the runtime has."""
        devices = self.runs.devices
        return self.device if self.device in devices else devices[0]

    def batch(self, bench: MeterBench) -> Feeds:
        """Return `batch_size` inputs of the split, repeated where it has fewer."""
        return feed_batch(bench.inputs, self.batch_size)

    def opener(self, artifact: Path, bench: MeterBench) -> Opener:
        """Return a function that opens a new session of the artifact."""
        batch, runtime, place = self.batch(bench), self.runs, self.place
        return lambda: runtime.open(artifact / MODEL, threads=self.threads, device=place).call(batch)

    def call_seconds(self, artifact: Path, bench: MeterBench, *, budget_seconds: float) -> NDArray[np.float64]:
        """Return the seconds of a call in fresh sessions, [rounds, (CPU, wall)], within a budget of wall time."""
        clock = self.clock()[1]
        protocol = TimingProtocol(side_seconds=0.030, budget_seconds=budget_seconds)
        counters = (clock, time.perf_counter)
        seconds, _ = sample(self.opener(artifact, bench), protocol, cpu=clock, counters=counters)
        return seconds

    def unavailable(self, artifact: Path, bench: MeterBench) -> Reading | None:
        """Return a reading with the reason why nothing can be measured here, or None if it can."""
        if self.place not in self.runs_on:
            return Reading.not_measured(self.unit, f"{self.kind} is not read on {self.place}")
        if self.runtime == REFERENCE_RUNTIME and self.place == "cpu" and not bench.expected:
            return None  # an error on a CPU is the artifact's fault, and fails the trial
        if missing := self.runs.missing():
            return Reading.not_measured(self.unit, missing)
        folders = (artifact,) if bench.baseline is None or not self.compares else (bench.baseline, artifact)
        try:
            wrong = [words for folder in folders if (words := self._unlike(folder, bench))]
        except (NoSuchDevice, ModelRefused) as error:
            return Reading.not_measured(self.unit, str(error))
        return Reading.not_measured(self.unit, wrong[0]) if wrong else None

    def answers_gap(self, artifact: Path, bench: MeterBench) -> dict[str, Detail]:
        """Return as ``answers_gap`` how far another runtime's answers are from the reference's, for the details.

        The reference's own are compared with those that it gave on another machine.
        """
        if self.runtime == REFERENCE_RUNTIME and not bench.expected:
            return {}
        return {"answers_gap": self._agreement(artifact, bench).gap}

    def _agreement(self, artifact: Path, bench: MeterBench) -> Agreement:
        return agreement(
            artifact / MODEL,
            self.runs,
            bench.inputs,
            threads=self.threads,
            device=self.place,
            expected=bench.expected.get(artifact),
        )

    def _unlike(self, artifact: Path, bench: MeterBench) -> str | None:
        """Return how the runtime's answers differ from the reference's; None if they are the same up to rounding."""
        found = self._agreement(artifact, bench)
        if found.holds:
            return None
        which = "the baseline's" if artifact == bench.baseline else "the file's"
        there = f"{self.runs.title} on {platform.node()}" if bench.expected else self.runs.title
        those = "ONNX Runtime on the machine that judges them" if bench.expected else "ONNX Runtime"
        told = f"by {found.gap:.2g} of the largest answer (up to {found.most:.2g} is rounding)"
        return f"{which} answers in {there} differ from those in {those} {told}"

    def clock(self) -> tuple[str, Clock]:
        """Return the clock that measures the computation, and its name.

        With one thread it is the thread's CPU time, if the runtime computes in it; otherwise the process's CPU time,
        which measures work, not waiting; on a device it is wall time around a call that waits for the device.
        """
        if self.place != "cpu":
            return "wall, synchronised", time.perf_counter
        alone = self.threads == 1 and self.runs.in_thread
        return ("thread CPU", time.thread_time) if alone else ("process CPU", time.process_time)

    def facts(self) -> dict[str, Detail]:
        """Return the settings that the number depends on."""
        told = {"batch_size": self.batch_size, "threads": self.threads, "device": self.place}
        return {**told, "clock": self.clock()[0], **machine(), "runtime": self.runs.version()}


def machine(system: Path = Path("/proc")) -> dict[str, Detail]:
    """Return what the time depends on: the machine's name, CPU model and relevant CPU flags.

    Boards with ARM processors tell no model of those, but their own name, such as ``Raspberry Pi 5 Model B Rev 1.0``.

    Args:
        system: where the kernel tells of the machine.
    """
    model, flags = "", set[str]()
    path, board = system / "cpuinfo", system / "device-tree" / "model"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "model name":
            model = value
        if name in ("flags", "Features"):
            flags |= set(value.split())
    if not model and board.exists():
        model = board.read_text(encoding="utf-8").rstrip("\0\n")
    return {
        "machine": platform.node(),
        "cpu": model or platform.processor() or platform.machine(),
        "cpu_flags": " ".join(flag for flag in TELLING_FLAGS if flag in flags),
    }


def runtimes_of(meters: Iterable[Meter]) -> tuple[str, ...]:
    """Return the runtimes that meters measure on beside the default, each once."""
    named = [meter.runtime for meter in meters if isinstance(meter, ServedMeter) and meter.runtime != REFERENCE_RUNTIME]
    return tuple(dict.fromkeys(named))


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
        runtime = reference_to(type(meter.runs))
        told = [_fresh_start(artifact / MODEL, inputs, meter.threads, runtime) for _ in range(meter.starts)]
    return {name: np.array([start[name] for start in told], np.float64) for name in told[0]}


def _fresh_start(model: Path, inputs: Path, threads: int, runtime: str) -> dict[str, float | None]:
    command = [
        sys.executable,
        "-m",
        "paretta.pipelines.measuring.cold_start",
        str(model.absolute()),
        str(inputs),
        str(threads),
        runtime,
    ]
    # our own interpreter and module; nothing of the command comes from outside
    done = subprocess.run(  # noqa: S603
        command,
        env=process_environment(),
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=START_SECONDS,
    )
    told: dict[str, float | None] = json.loads(done.stdout)
    return told
