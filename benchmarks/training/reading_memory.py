"""The memory that reading a metric takes, by the length of the split: each reading in a process of its own.

The images are made as they are read, as a folder of files would be decoded. What is told is by how much the resident
memory rises above that before the reading, at its peak (Linux), for splits of 1x, 4x and 16x the samples.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from paretta.pipelines import artifact
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.measuring.measure import measure
from paretta.pipelines.meter import meter_of
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.space.plan import Plan

SAMPLES, LENGTHS, CLASSES, PIXELS = 1024, (1, 4, 16), 100, 64
# written before the measurement: the peak at 16x against that at 1x; None where memory must grow with the split
EXPECTED: Mapping[str, float | None] = {"each": 1.1, "counting": 1.1, "collecting": None, "whole": None}


class Images(Dataset[tuple[Tensor, int]]):
    """Noise, made anew whenever it is read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        """Return the number of images."""
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image [3, 64, 64] and its class."""
        generator = torch.Generator().manual_seed(index)
        return torch.randn(3, PIXELS, PIXELS, generator=generator), index % CLASSES


class Counting:
    """Accuracy from two counts, as most metrics of torchmetrics keep their state."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.right, self.count = 0, 0

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Count a batch."""
        self.right += int((outputs.argmax(1) == labels).sum())
        self.count += len(labels)

    def compute(self) -> float:
        """Return the share of right answers."""
        return self.right / self.count


class Collecting(Counting):
    """Accuracy from all answers, which are kept, as an exact AUROC or rank correlation does."""

    def reset(self) -> None:
        """Forget all samples."""
        self.outputs: list[Tensor] = []
        self.labels: list[Tensor] = []

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Keep a batch."""
        self.outputs.append(outputs)
        self.labels.append(labels)

    def compute(self) -> float:
        """Return the share of right answers."""
        return float((torch.cat(self.outputs).argmax(1) == torch.cat(self.labels)).float().mean())


def right(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return 1 for each right answer, else 0, [n]."""
    return (outputs.argmax(1) == labels).float()


METRICS: Mapping[str, Callable[[], Metric]] = {
    "each": lambda: Metric(right),
    "counting": lambda: Metric(Counting()),
    "collecting": lambda: Metric(Collecting()),
    "whole": lambda: Metric(lambda outputs, labels: right(outputs, labels).mean()),
}


def main() -> None:
    """Read each metric for each length, and print a table with the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("METRIC", "SAMPLES"), help="read one in this process, and print it")
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(megabytes(given.one[0], int(given.one[1]))))
        return
    print(
        "| metric | " + " | ".join(f"{SAMPLES * length} samples" for length in LENGTHS) + " | 16x / 1x | expected | |"
    )
    print("|---" * (len(LENGTHS) + 4) + "|")
    for name, most in EXPECTED.items():
        found = [_apart(name, SAMPLES * length) for length in LENGTHS]
        ratio = found[-1] / found[0]
        verdict = "grows with the answers" if most is None else ("hit" if ratio <= most else "**miss**")
        wanted = "" if most is None else f"<= {most:g}"
        print(f"| {name} | {' | '.join(f'{value:.0f} MB' for value in found)} | {ratio:.2f} | {wanted} | {verdict} |")


def megabytes(name: str, count: int) -> float:
    """Return by how many megabytes this process's memory rises at the peak of one reading."""
    torch.set_num_threads(1)
    data = Images(count)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
    )
    task = Task(model, data, data, data, functional.cross_entropy, {"accuracy": METRICS[name]()}, data[0][0][None])
    with TemporaryDirectory(prefix="paretta-") as folder:
        artifact.write(Path(folder), to_bytes(model.eval(), task.example_input), plan=Plan(), seed=0, data_digest="")
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now
        before = _megabytes_of("VmRSS")
        measure(Path(folder), None, task, split="validation", meters=[meter_of("accuracy", task.metrics)])
        return _megabytes_of("VmHWM") - before


def _megabytes_of(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _apart(name: str, count: int) -> float:
    command = [sys.executable, "-m", "benchmarks.training.reading_memory", "--one", name, str(count)]
    # else glibc raises the size from which it gives memory back at once, and what is resident is what fell apart
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
