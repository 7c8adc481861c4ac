"""Samples a second of a training whose samples cost something to read, against a plain loop over torch's DataLoader.

Two data sets, both made by name as a sweep's workers make theirs: real JPEGs (parts of the two photographs that
scikit-learn ships) decoded and augmented, and a store that answers in 5 ms. The same network, optimiser and number of
loaders in each way, in turn, in one run; the first epoch of each, in which loaders start, is left out.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from paretta.pipelines.batches.loaders import Loaders
from paretta.pipelines.bench import Bench
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit

EXPECTED_JPEG, EXPECTED_STORE = 0.95, 5.0  # of the plain loop; times today's reading in the training process
IMAGES, SIZE, CROP, BATCH, EPOCHS = 384, 192, 160, 32, 3
STORE_S, STORE_SAMPLES, STORE_LOADERS = 0.005, 384, 8


class Jpegs(Dataset[tuple[Tensor, int]]):
    """JPEG files, decoded and then cropped and mirrored at random."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.jpg"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.files[index]) as image:
            width, height = image.size
            pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
        whole = pixels.view(height, width, 3).permute(2, 0, 1)
        top, left = torch.randint(0, SIZE - CROP + 1, (2,)).tolist()
        part = whole[:, top : top + CROP, left : left + CROP].float().div(255)
        return (part.flip(-1) if torch.rand(()) < 0.5 else part), index % 2


class Store(Dataset[tuple[Tensor, int]]):
    """A store that answers in 5 ms, without computing."""

    def __len__(self) -> int:
        return STORE_SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        time.sleep(STORE_S)
        return torch.full((3, 16, 16), float(index % 2)), index % 2


def network() -> nn.Module:
    """Return a small network, so that reading is what counts."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
    )


def task_of(data: Dataset[tuple[Tensor, int]], side: int) -> Task:
    """Return a task whose splits are all `data`."""
    example = torch.zeros(1, 3, side, side)
    model = network()
    model(example)
    metrics = {"accuracy": Metric(lambda scores, labels: (scores.argmax(1) == labels).double())}
    return Task(model, data, data, data, functional.cross_entropy, metrics, example)


def jpegs(folder: Path) -> Task:
    """Make the task of JPEGs."""
    return task_of(Jpegs(folder), CROP)


def store() -> Task:
    """Make the task of the slow store."""
    return task_of(Store(), 16)


def write_jpegs(folder: Path) -> None:
    """Cut the photographs into overlapping squares and write each as a JPEG file."""
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for number in range(IMAGES):
        image = photographs[number % 2]
        left, top = number * 37 % (image.width - SIZE), number * 61 % (image.height - SIZE)
        image.crop((left, top, left + SIZE, top + SIZE)).save(folder / f"{number:04}.jpg", quality=90)


def by_fit(task: Task, loaders: Loaders, epochs: int) -> float:
    """Train by `fit`; return the samples a second after the first epoch."""
    stamps: list[float] = []
    bench = Bench(task, Ranks.alone(), loaders=loaders, report=lambda _: stamps.append(time.perf_counter()))
    fit(task.new_model(), bench, TrainSettings(epochs=epochs, batch_size=BATCH))
    return len(task.train) // BATCH * BATCH * (epochs - 1) / (stamps[-1] - stamps[0])  # type: ignore[arg-type]


def by_plain_loop(task: Task, num_loaders: int, epochs: int) -> float:
    """Train by a plain loop over DataLoader; return the samples a second after the first epoch."""
    model, stamps = task.new_model(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batches = DataLoader(
        task.train,
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=num_loaders,
        persistent_workers=True,
        multiprocessing_context="forkserver",
    )
    for _ in range(epochs):
        for inputs, targets in batches:
            loss = task.loss(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        stamps.append(time.perf_counter())
    return len(batches) * BATCH * (epochs - 1) / (stamps[-1] - stamps[0])


def measure(rounds: int, folder: Path) -> dict[str, list[float]]:
    """Return the samples a second of each way, round by round."""
    found: dict[str, list[float]] = {
        "loaders x2": [],
        "plain loop x2": [],
        "store, loaders": [],
        "store, in process": [],
    }
    make_jpegs, make_store = partial(jpegs, folder), partial(store)
    of_jpegs, of_store = Loaders(make_jpegs, 2), Loaders(make_store, STORE_LOADERS)
    for _ in range(rounds):
        found["loaders x2"].append(by_fit(make_jpegs(), of_jpegs, EPOCHS))
        found["plain loop x2"].append(by_plain_loop(make_jpegs(), 2, EPOCHS))
        found["store, loaders"].append(by_fit(make_store(), of_store, EPOCHS))
        found["store, in process"].append(by_fit(make_store(), Loaders(), 2))
    of_jpegs.close()
    of_store.close()
    return found


def main() -> int:
    """Measure, print the table and say whether the expectations were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        write_jpegs(Path(name))
        found = measure(arguments.rounds, Path(name))
    pairs = (
        ("JPEGs: of the plain loop", "loaders x2", "plain loop x2", EXPECTED_JPEG),
        ("slow store: times reading in process", "store, loaders", "store, in process", EXPECTED_STORE),
    )
    print(f"samples a second, {arguments.rounds} rounds in turn; load before {load:.1f}")
    for way, rates in found.items():
        print(f"{way:20} median {statistics.median(rates):8.0f}   {min(rates):8.0f} to {max(rates):8.0f}")
    document: dict[str, object] = {**found, "load_before": load}
    hits = []
    for words, ours, theirs, expected in pairs:
        ratios = [one / other for one, other in zip(found[ours], found[theirs], strict=True)]
        ratio = statistics.median(ratios)
        hits.append(ratio >= expected)
        document[words] = {"ratios": ratios, "expected": expected}
        print(f"{words}: median {ratio:.2f}, {min(ratios):.2f} to {max(ratios):.2f}; expected at least {expected:g}: "
              f"{'hit' if hits[-1] else 'miss'}")  # fmt: skip
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0 if all(hits) else 1


if __name__ == "__main__":
    sys.exit(main())
