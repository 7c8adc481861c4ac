"""Files timed against each other in one runtime, interleaved in one process, and judged by their answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.data.feeds import Feeds, feed_batch
from paretta.pipelines.measuring.intervals import bootstrap_interval, mean_interval, wilson_interval
from paretta.pipelines.measuring.runtime_agreement import agreement
from paretta.pipelines.measuring.timing import Opener, Rounds, TimingProtocol, interleave, usable_cores
from paretta.pipelines.runtime import ModelRefused, runtime_of

BATCHES = (1, 64)
SIDE_SECONDS, MIN_SESSIONS, BUDGET_SECONDS = 0.010, 12, 90.0


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of CPU times with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Format it for a table."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def ratio_of(rounds: Rounds, side: int, other: int) -> Ratio:
    """Return the time of `side` over that of `other`, paired by round."""
    fastest = np.asarray(rounds.fastest)
    ratios = fastest[:, side] / fastest[:, other]
    return Ratio(float(np.median(ratios)), *bootstrap_interval(ratios))


def duel(files: Sequence[Path], inputs: Feeds, runtime_name: str) -> dict[int, Rounds]:
    """Time all files in turn at each batch size, on one thread; the first one is the reference."""
    runtime = runtime_of(runtime_name)
    protocol = TimingProtocol(
        side_seconds=SIDE_SECONDS, min_sessions=MIN_SESSIONS, half_width=0.01, budget_seconds=BUDGET_SECONDS
    )

    def opener(path: Path, batch: Feeds) -> Opener:
        return lambda: runtime.open(path, threads=1, device="cpu").call(batch)

    batches = {size: feed_batch(inputs, size) for size in BATCHES}
    return {
        size: interleave([opener(path, batch) for path in files], protocol, cores=usable_cores())
        for size, batch in batches.items()
    }


def cosine(files: Sequence[Path], feeds: Feeds, output: int, size: int, runtime_name: str) -> Ratio:
    """Return the mean cosine similarity of an output's rows between two files, in batches of `size`."""
    count = len(next(iter(feeds.values())))
    vectors = [
        np.concatenate(
            [
                opened.answers({name: array[start : start + size] for name, array in feeds.items()})[output]
                for start in range(0, count, size)
            ]
        ).astype(np.float64)
        for opened in (runtime_of(runtime_name).open(file, threads=1, device="cpu") for file in files)
    ]
    norms = [np.linalg.norm(rows, axis=1) for rows in vectors]
    each = (vectors[0] * vectors[1]).sum(1) / (norms[0] * norms[1])
    low, high = mean_interval(each) or (np.nan, np.nan)
    return Ratio(float(each.mean()), low, high)


def accuracy(path: Path, images: NDArray[np.float32], labels: NDArray[np.int64], runtime_name: str) -> Ratio:
    """Return the share of right answers of a file in a runtime with Wilson's interval."""
    opened = runtime_of(runtime_name).open(path, threads=1, device="cpu")
    right = sum(
        int((opened.answers({"input": images[start : start + 500]})[0].argmax(1) == labels[start : start + 500]).sum())
        for start in range(0, len(images), 500)
    )
    return Ratio(right / len(labels), *wilson_interval(right, len(labels)))


def runs_there(path: Path, inputs: Feeds, runtime_name: str) -> str:
    """Return why a file does not count in a runtime; empty if it runs and answers as in ONNX Runtime."""
    try:
        found = agreement(path, runtime_of(runtime_name), inputs)
    except ModelRefused as error:
        return str(error)
    return "" if found.holds else f"its answers differ by {found.gap:.2g} of the largest from ONNX Runtime's"
