"""Batches are the same whoever reads them, loaders serve one pass after the other, and what fails is named."""

import logging
import os
import pickle
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import random_views
import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from paretta.pipelines.batches import loaders as loaders_module
from paretta.pipelines.batches.loaders import Loaders, LoaderTrace
from paretta.pipelines.batches.request import BatchRequest, is_in_memory
from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.data.samples import take
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.task import Task
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit
from paretta.search_spaces.errors import WrongInput


def requests(*, size: int, seed: int = 7, num_samples: int = random_views.SAMPLES) -> list[BatchRequest]:
    return [BatchRequest("train", part, seed) for part in torch.split(torch.arange(num_samples), size)]


def rows(loaders: Loaders, task: Task, *, size: int, seed: int = 7) -> Tensor:
    """All samples of one pass, [n, 4]."""
    return torch.cat([batch[0] for _, batch in loaders.read(task, requests(size=size, seed=seed))])


@pytest.fixture(scope="module")
def two() -> Iterator[Loaders]:
    loaders = Loaders(random_views.make, 2)
    yield loaders
    loaders.close()


def test_views_are_the_same_in_any_process_and_batch(two: Loaders) -> None:
    task, alone = random_views.make(), Loaders()
    here = rows(alone, task, size=8)
    assert torch.equal(rows(two, task, size=8), here)
    assert two.running == 2
    assert torch.equal(rows(two, task, size=5), here), "as two ranks, whose batches are smaller"
    assert torch.equal(here[:, 0], torch.arange(float(random_views.SAMPLES)))
    assert len(here[:, 1:].unique()) == 3 * random_views.SAMPLES, "each sample draws its own"
    assert not torch.equal(rows(two, task, size=8, seed=8), here)


def test_reading_leaves_the_generators_alone(two: Loaders) -> None:
    def drawn(loaders: Loaders) -> list[float]:
        with seeded(3):
            rows(loaders, random_views.make(), size=8)
            return [torch.rand(()).item(), random.random(), float(np.random.rand())]

    with seeded(3):
        expected = [torch.rand(()).item(), random.random(), float(np.random.rand())]
    assert drawn(two) == drawn(Loaders()) == expected


def test_a_pass_that_was_left_does_not_reach_into_the_next(two: Loaders) -> None:
    task = random_views.make()
    left = two.read(task, requests(size=3, seed=1))
    next(left)
    del left
    assert torch.equal(rows(two, task, size=8), rows(Loaders(), task, size=8))


def test_a_training_is_the_same_with_loaders(two: Loaders) -> None:
    def weights(loaders: Loaders) -> Tensor:
        task = random_views.make()
        with seeded(0):
            model = task.new_model()
        told: list[dict[str, float]] = []
        bench = Bench(task, Ranks.alone(), seed=4, loaders=loaders, scored=True, report=lambda p: told.append(p.scores))
        fit(model, bench, TrainSettings(epochs=2, batch_size=5))
        assert len(told) == 2
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    assert torch.equal(weights(two), weights(Loaders()))


def test_loaders_serve_all_passes_and_make_the_task_once_each(tmp_path: Path) -> None:
    loaders, task = Loaders(partial(random_views.make_with_trace, tmp_path / "made"), 1), random_views.make()
    for _ in range(3):
        rows(loaders, task, size=8)
    loaders.close()
    made = (tmp_path / "made").read_text(encoding="utf-8").split()
    assert len(made) == 1
    assert made != [str(os.getpid())]


def test_the_sample_that_cannot_be_read_is_named() -> None:
    loaders = Loaders(random_views.make_broken, 2)
    for reader in (loaders, Loaders()):
        with pytest.raises(WrongInput, match=r"task.train\[13\]: reading it failed: ValueError: no such file") as told:
            rows(reader, random_views.make_broken(), size=8)
        assert "random_views.py" in str(told.value)
    with pytest.raises(WrongInput) as told:
        rows(loaders, random_views.make_broken(), size=8)
    assert isinstance(told.value.__cause__, LoaderTrace)
    assert "Traceback" in str(told.value.__cause__)
    loaders.close()


def test_reading_goes_on_here_where_a_loader_dies(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    make = partial(random_views.make_dying, os.getpid())
    task, loaders = make(), Loaders(make, 1)
    with caplog.at_level(logging.WARNING):
        found = rows(loaders, task, size=4)
    assert torch.equal(found, rows(Loaders(), random_views.make(), size=4))
    assert "reading goes on in the training process" in caplog.text
    assert loaders.running == 0


def test_a_task_that_cannot_be_pickled_is_read_here(caplog: pytest.LogCaptureFixture) -> None:
    task = random_views.make()
    with caplog.at_level(logging.WARNING):
        found = rows(Loaders(lambda: task, 1), task, size=8)
    assert torch.equal(found, rows(Loaders(), task, size=8))
    assert "a loader must be able to make the task" in caplog.text


def test_tensors_in_memory_start_nothing() -> None:
    data = TensorDataset(torch.arange(96.0).reshape(24, 4), torch.arange(24))
    task = random_views.task_of(Subset(data, list(range(24))))
    loaders = Loaders(random_views.make, 2)
    assert is_in_memory(task, "train")
    assert torch.equal(rows(loaders, task, size=8), data.tensors[0])
    assert loaders.running == 0


def test_auto_starts_where_reading_has_cost_as_much_as_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    task = random_views.make()
    cheap = Loaders(random_views.make, None, free=2)
    rows(cheap, task, size=8)
    assert cheap.running == 0
    monkeypatch.setattr(loaders_module, "START_S", 1e-9)
    dear = Loaders(random_views.make, None, free=1)
    found = rows(dear, task, size=8)
    assert dear.running == 1
    assert torch.equal(found, rows(Loaders(), task, size=8)), "they start in the midst of a pass"
    dear.close()


@pytest.mark.parametrize(
    ("reading", "computing", "between", "free", "expected"),
    [
        (4.0, 4.0, 4.0, 8, 2),  # reading costs as much as training: two keep up
        (4.0, 4.0, 0.1, 3, 3),  # the free cores bound what computes
        (4.0, 4.0, 0.1, 0, 0),
        (4.0, 0.1, 0.1, 0, 8),  # what waits needs no core
        (4.0, 0.1, 2.0, 0, 3),
    ],
)
def test_auto_counts_what_keeps_up(reading: float, computing: float, between: float, free: int, expected: int) -> None:
    loaders = Loaders(random_views.make, None, free=free)
    spent = loaders._spent
    spent.reading, spent.computing, spent.between = reading, computing, between
    assert loaders._worthwhile() == expected


def test_samples_that_draw_are_read_one_by_one_and_others_together() -> None:
    drawing = random_views.ViewsInBatches()
    drawing.calls.clear()
    whole = take(drawing, torch.arange(6), seed=1)[0]
    parts = [take(drawing, part, seed=1)[0] for part in torch.arange(6).split(2)]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(whole, take(random_views.Views(), torch.arange(6), seed=1)[0])
    calls = drawing.calls
    assert calls[:7] == [6, 1, 1, 1, 1, 1, 1]


def test_a_request_travels() -> None:
    request = pickle.loads(pickle.dumps(BatchRequest("validation", torch.tensor([3, 1]), 5)))
    assert (request.split, request.indices.tolist(), request.seed) == ("validation", [3, 1], 5)
