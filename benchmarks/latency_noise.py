"""How far a latency of a model against itself is from 1 while another process burns CPU: ours beside the naive mean.

The digits network is compared with itself, so the truth is known. The naive way is what is common: the mean of 20 wall
times of one side over the mean of 20 wall times of the other, in one session each and after a warm-up. Ours is the
`latency` meter. Both are read in turn, each reading in a fresh process, with one burner process for every core but one.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from paretta.pipelines.data.feeds import Feeds, feed_batch
from paretta.pipelines.kernels.ort_session import open_call
from paretta.pipelines.measuring.timing import NUM_WARM_UPS
from paretta.pipelines.meter import MeterBench
from paretta.pipelines.meters.latency import Latency

EXPECTED_ERROR = 0.02  # chosen before the measurement
NAIVE_CALLS = 20


@dataclass(frozen=True, slots=True)
class Row:
    """What one way of measuring did over all readings.

    Args:
        way: its name.
        errors: ratio minus 1 of each reading.
        covered: share of readings whose 95 % interval holds 1.
        seconds: median wall time of one reading.
    """

    way: str
    errors: tuple[float, ...]
    covered: float
    seconds: float

    def line(self) -> str:
        """Return the row of the table."""
        sizes = np.abs(self.errors)
        median, worst, within = np.median(sizes), sizes.max(), np.mean(sizes <= EXPECTED_ERROR)
        return f"{self.way:22}{median:9.2%}{worst:9.2%}{within:9.0%}{self.covered:10.0%}{self.seconds:9.2f}"


def export(folder: Path) -> None:
    """Write the untrained digits network and its inputs."""
    import torch  # noqa: PLC0415 - the measuring processes stay light

    from paretta.pipelines.export.to_onnx import to_bytes  # noqa: PLC0415
    from paretta.pipelines.tasks.digits import make  # noqa: PLC0415

    task = make()
    torch.manual_seed(0)
    (folder / "model.onnx").write_bytes(to_bytes(task.new_model(), task.example_input))
    np.save(folder / "inputs.npy", np.stack([task.validation[index][0].numpy() for index in range(16)]))


def naive(folder: Path, inputs: Feeds) -> tuple[float, float, float]:
    """Return ratio and the normal 95 % interval from means of wall times, as its users would compute it."""
    calls = [open_call(folder / "model.onnx", feed_batch(inputs, 1)) for _ in range(2)]
    means, errors = [], []
    for call in calls:
        for _ in range(NUM_WARM_UPS):
            call()
        times = []
        for _ in range(NAIVE_CALLS):
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
        means.append(np.mean(times))
        errors.append(np.std(times, ddof=1) / NAIVE_CALLS**0.5 / np.mean(times))
    ratio = float(means[0] / means[1])
    half = float(1.96 * ratio * np.hypot(*errors))
    return ratio, ratio - half, ratio + half


def one_reading(way: str, folder: Path) -> None:
    """Print a reading and its seconds as JSON; runs in a process of its own."""
    inputs = {"input": np.load(folder / "inputs.npy")}
    begun = time.perf_counter()
    if way == "naive":
        found = naive(folder, inputs)
    else:
        reading = Latency().read(folder, MeterBench(folder, inputs))
        assert reading.value is not None
        assert reading.low is not None
        assert reading.high is not None
        found = reading.value, reading.low, reading.high
    print(json.dumps([*found, time.perf_counter() - begun]))


def readings(way: str, folder: Path) -> list[float]:
    """Return ratio, low, high and seconds of one reading in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.latency_noise", "--one", way, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: list[float] = json.loads(done.stdout)
    return found


def burn() -> None:
    """Keep a core and its caches busy."""
    values = np.random.default_rng(0).normal(size=(600, 600))
    while True:
        values = np.tanh(values @ values)


@contextmanager
def burners(count: int) -> Iterator[None]:
    """Run `count` burning processes."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=burn, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def row(way: str, found: list[list[float]]) -> Row:
    """Sum up the readings of one way."""
    ratios, lows, highs, seconds = np.array(found).T
    covered = float(np.mean((lows <= 1.0) & (highs >= 1.0)))
    return Row(way, tuple((ratios - 1.0).tolist()), covered, float(np.median(seconds)))


def main() -> int:
    """Measure, print the table and say whether the expectation was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--readings", type=int, default=10, help="of each way")
    parser.add_argument("--one", choices=("naive", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one_reading(arguments.one, arguments.folder)
        return 0
    load, num_burners = os.getloadavg()[0], max(1, (os.cpu_count() or 2) - 1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        export(folder)
        with burners(num_burners):
            pairs = [[readings(way, folder) for way in ("naive", "ours")] for _ in range(arguments.readings)]
    naives, ours = (list(found) for found in zip(*pairs, strict=True))
    rows = [row("mean of 20 wall times", naives), row("latency meter", ours)]
    worst = float(np.abs(rows[1].errors).max())
    hit = worst <= EXPECTED_ERROR
    if arguments.json is not None:
        facts = {"expected_error": EXPECTED_ERROR, "hit": hit, "load_before": load, "burners": num_burners}
        document = {**facts, "rows": [asdict(each) for each in rows]}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"a model against itself, {arguments.readings} readings each, {num_burners} burning, load before {load:.1f}")
    print(f"{'':22}{'median':>9}{'worst':>9}{'in 2 %':>9}{'covers 1':>10}{'seconds':>9}")
    for each in rows:
        print(each.line())
    print(f"worst error {worst:.2%}; expected within {EXPECTED_ERROR:.0%}: {'hit' if hit else 'miss'}")
    return 0 if hit else 1


if __name__ == "__main__":
    sys.exit(main())
