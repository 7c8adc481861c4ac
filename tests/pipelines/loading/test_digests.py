"""Data has one name in all processes, whatever its random views are, and another name once it changes."""

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.loading.digests import data_digest, equal_splits, is_repeatable, samples_digest
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import WrongInput


class Views(Dataset[tuple[Tensor, Tensor]]):
    """Samples that are shifted at random each time they are read, by whichever generator is asked for."""

    own = np.random.default_rng()

    def __init__(self, generator: str, start: float = 0.0, length: int = 40) -> None:
        self.generator, self.start, self.length = generator, start, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        draw = {
            "torch": lambda: float(torch.rand(())),
            "numpy": np.random.rand,
            "random": random.random,
            "own": lambda: float(self.own.random()),
            "none": lambda: 0.0,
        }[self.generator]
        return torch.full((3,), self.start + index + draw()), torch.tensor(index % 3)


def task_of(train: "Dataset[tuple[Tensor, ...]]", **more: str) -> Task:
    plain, other = Views("none", 100.0), Views("none", 200.0)
    metrics = {"accuracy": Metric(lambda o, t: (o.argmax(1) == t).float())}
    given = torch.zeros(1, 3)
    return Task(nn.Identity(), train, plain, other, nn.functional.cross_entropy, metrics, given, **more)  # type: ignore[arg-type]


GENERATORS = ("torch", "numpy", "random")


def digests() -> list[str]:
    return [f"{data_digest(task_of(Views(name)))} {samples_digest(Views(name))}" for name in GENERATORS]


def test_random_views_have_the_same_name_in_every_process() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_digests; print(*test_digests.digests(), sep='\\n')"
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent)]
    torch.rand(3)
    random.random()
    np.random.rand()
    elsewhere = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split("\n")
    assert digests() == elsewhere[: len(GENERATORS)]
    assert len(set(digests())) == len(GENERATORS)


@pytest.mark.parametrize("generator", GENERATORS)
def test_naming_data_moves_no_generator_and_sees_a_change(generator: str) -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first = data_digest(task_of(Views(generator)))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    assert first != data_digest(task_of(Views(generator, start=0.5)))
    check_task(task_of(Views(generator)), trains=False)


def test_views_that_no_seed_reaches_are_refused_unless_the_task_names_its_data() -> None:
    task = task_of(Views("own"))
    assert not is_repeatable(task)
    with pytest.raises(WrongInput, match=r"two readings of the same samples must be alike.*data_id"):
        check_task(task, trains=False)
    named = replace(task, data_id="pictures of May")
    check_task(named, trains=False)
    digest = data_digest(named)
    assert digest.startswith("stated:")
    assert digest == data_digest(replace(task, data_id="pictures of May"))
    assert digest != data_digest(replace(task, data_id="pictures of June"))
    assert digest != data_digest(replace(named, train=Views("own", length=41)))


def test_splits_with_the_same_samples_are_found() -> None:
    plain = Views("none")
    copied = TensorDataset(*(torch.stack(parts) for parts in zip(*(plain[i] for i in range(len(plain))), strict=True)))
    other, longer = Views("none", 1.0), Views("none", length=41)
    assert equal_splits(replace(task_of(plain), validation=copied, test=other)) == [("train", "validation")]
    assert equal_splits(replace(task_of(plain), validation=plain, test=plain)) == [
        ("train", "validation"),
        ("train", "test"),
        ("validation", "test"),
    ]
    assert equal_splits(replace(task_of(plain), validation=longer, test=other)) == []
