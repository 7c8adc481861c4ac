"""How often a latency's 95 % interval holds its pair's median over many readings, on an idle and on a busy machine.

Five pairs are read in turn, each reading in a fresh process, so that a pair's readings are spread over minutes: the
digits network against itself, and networks of twice and four times its work and of a quarter and half of its channels
against it. No ratio but the first is known, so each pair is judged by the median of all its readings. Half of them are
taken beside burning processes. ``--way medians`` reads as was usual before: medians of times of 10 ms.

    python -m benchmarks.latency_load --readings 10 --minutes 9 --json latency-load.jsonl

Readings are kept in the file of ``--json``; the same command again goes on where it was stopped.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.latency_noise import burners
from paretta.pipelines.data.feeds import Feeds, feed_batch
from paretta.pipelines.kernels.ort_session import open_call
from paretta.pipelines.measuring.intervals import bootstrap_interval
from paretta.pipelines.meter import MeterBench
from paretta.pipelines.meters.latency import Latency

PAIRS: Final = {"itself": 1.0, "2x work": 2.0, "4x work": 4.0, "75 % pruned": 0.25, "50 % pruned": 0.5}
EXPECTED_COVERED, EXPECTED_HALF_WIDTH = 0.9, 0.03  # chosen before the measurement
BUDGET_SECONDS: Final = 3.0  # of one reading, as in the digits preset
OLD_SESSIONS, OLD_SECONDS = 12, 0.010


@dataclass(frozen=True, slots=True)
class Found:
    """One reading of one pair."""

    pair: str
    burning: int
    value: float
    low: float
    high: float
    seconds: float
    load: float


def export(folder: Path) -> None:
    """Write the untrained networks, each into a folder of its own, and their inputs."""
    import torch  # noqa: PLC0415 - the measuring processes stay light
    from torch import nn  # noqa: PLC0415

    from paretta.pipelines.export.to_onnx import to_bytes  # noqa: PLC0415
    from paretta.pipelines.tasks.digits import make  # noqa: PLC0415

    class Several(nn.Module):
        """Networks on the same input whose scores are added."""

        def __init__(self, num: int) -> None:
            super().__init__()
            self.parts = nn.ModuleList(make().new_model() for _ in range(num))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """Add up the scores [n, 10]."""
            total: torch.Tensor = self.parts[0](images)
            for part in list(self.parts)[1:]:
                total = total + part(images)
            return total

    task = make()
    torch.manual_seed(0)
    for pair, work in PAIRS.items():
        pruned = make(width=int(32 * work), hidden=int(64 * work)).new_model() if work < 1 else None
        model = pruned or Several(int(work))
        (folder / pair).mkdir()
        (folder / pair / "model.onnx").write_bytes(to_bytes(model, task.example_input))
    np.save(folder / "inputs.npy", np.stack([task.validation[index][0].numpy() for index in range(16)]))


def by_medians(artifact: Path, baseline: Path, inputs: Feeds) -> tuple[float, float, float]:
    """Return ratio and interval from blocks of 10 ms in fresh sessions, all within one visit."""
    ratios = []
    for _ in range(OLD_SESSIONS):
        calls = [open_call(folder / "model.onnx", feed_batch(inputs, 1)) for folder in (artifact, baseline)]
        counts = [max(1, int(OLD_SECONDS / seconds_of(call))) for call in calls]
        times = np.array([[block(calls[side], counts[side]) for side in order] for order in ((0, 1), (1, 0))])
        ratios.append(np.sqrt(times[0, 0] / times[0, 1] * times[1, 1] / times[1, 0]))
    return float(np.median(ratios)), *bootstrap_interval(np.array(ratios))


def seconds_of(call: object) -> float:
    """Return the CPU seconds of a warm call."""
    return min(block(call, 5) for _ in range(4))


def block(call: object, count: int) -> float:
    """Return the CPU seconds a call, over `count` calls."""
    assert callable(call)
    begun = time.thread_time()
    for _ in range(count):
        call()
    return (time.thread_time() - begun) / count


def one_reading(way: str, folder: Path, pair: str) -> None:
    """Print value, low, high and seconds as JSON; runs in a process of its own."""
    inputs, begun = {"input": np.load(folder / "inputs.npy")}, time.perf_counter()
    if way == "medians":
        found = by_medians(folder / pair, folder / "itself", inputs)
    else:
        reading = Latency(budget_seconds=BUDGET_SECONDS).read(folder / pair, MeterBench(folder / "itself", inputs))
        assert reading.value is not None
        assert reading.low is not None
        assert reading.high is not None
        found = reading.value, reading.low, reading.high
    print(json.dumps([*found, time.perf_counter() - begun]))


def read(way: str, folder: Path, pair: str, burning: int) -> Found:
    """Return one reading, taken in a fresh process."""
    load = os.getloadavg()[0]
    command = [sys.executable, "-m", "benchmarks.latency_load", "--way", way, "--one", pair, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    value, low, high, seconds = json.loads(done.stdout)
    return Found(pair, burning, value, low, high, seconds, load)


def collect(arguments: argparse.Namespace, kept: list[Found]) -> list[Found]:
    """Read what is missing, one reading of each pair without and with burners in turn, until the time is up."""
    found = list(kept)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        export(folder)
        begun = time.monotonic()
        per_turn = 60 * arguments.minutes / max(arguments.readings, 1)
        for turn in range(arguments.readings):
            for burning in arguments.burners:
                with burners(burning):
                    for pair in PAIRS:
                        if sum(f.pair == pair and f.burning == burning for f in found) > turn:
                            continue
                        if time.monotonic() - begun > 60 * arguments.minutes:
                            return found
                        found.append(read(arguments.way, folder, pair, burning))
                        if arguments.json is not None:
                            with arguments.json.open("a", encoding="utf-8") as file:
                                file.write(json.dumps(asdict(found[-1])) + "\n")
            if turn + 1 < arguments.readings and len(found) > len(kept):
                time.sleep(max(0.0, begun + (turn + 1) * per_turn - time.monotonic()))
    return found


def is_covered(found: Found, everything: list[Found]) -> bool:
    """Tell whether a reading's interval holds the median of all readings of its pair."""
    grand = float(np.median([other.value for other in everything if other.pair == found.pair]))
    return found.low <= grand <= found.high


def line(label: str, found: list[Found], everything: list[Found]) -> str:
    """Return a row of the table."""
    values = np.array([f.value for f in found])
    half = float(np.median([(f.high - f.low) / (f.high + f.low) for f in found]))
    share = np.mean([is_covered(f, everything) for f in found])
    spread = f"{values.min():.3f} .. {values.max():.3f}" if len({f.pair for f in found}) == 1 else ""
    seconds = np.median([f.seconds for f in found])
    return f"{label:28}{len(found):5}{share:10.0%}{half:12.2%}{seconds:9.1f}   {spread}"


def main() -> int:
    """Measure, print the table and say whether the expectation was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="keep the readings in this file, one a line, and go on from there")
    parser.add_argument("--readings", type=int, default=10, help="of each pair at each number of burners")
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="spread the readings over this time, and end by then"
    )
    parser.add_argument("--burners", type=int, nargs="+", default=[0, 2], help="numbers of burning processes")
    parser.add_argument("--way", choices=("ours", "medians"), default="ours", help="how to read")
    parser.add_argument("--one", choices=tuple(PAIRS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one_reading(arguments.way, arguments.folder, arguments.one)
        return 0
    kept = []
    if arguments.json is not None and arguments.json.exists():
        kept = [Found(**json.loads(text)) for text in arguments.json.read_text(encoding="utf-8").splitlines()]
    found = collect(arguments, kept)
    if not found:
        print("no reading was taken in that time")
        return 1
    print(f"{'pair':28}{'n':>5}{'covered':>10}{'half width':>12}{'seconds':>9}   values")
    for burning in arguments.burners:
        for pair in PAIRS:
            if rows := [f for f in found if (f.pair, f.burning) == (pair, burning)]:
                print(line(f"{pair}, {burning} burning", rows, found))
    print(line("all", found, found))
    covered = np.mean([is_covered(f, found) for f in found])
    half = np.median([(f.high - f.low) / (f.high + f.low) for f in found])
    hit = bool(covered >= EXPECTED_COVERED and half <= EXPECTED_HALF_WIDTH)
    aim = f"at least {EXPECTED_COVERED:.0%} covered, half width at most {EXPECTED_HALF_WIDTH:.0%}"
    loads = f"load before readings {min(f.load for f in found):.1f} to {max(f.load for f in found):.1f}"
    print(f"{loads}; expected {aim}: {'hit' if hit else 'miss'}")
    return 0 if hit else 1


if __name__ == "__main__":
    sys.exit(main())
