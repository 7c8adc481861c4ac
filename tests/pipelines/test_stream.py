"""Training on a streamed split uses exactly the data that arrive, and reports unsuitable streams."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench, TrainingProgress
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.loading.digests import data_digest
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stream import Stream
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit
from paretta.search_spaces.errors import TrialFailed, WrongInput

WEIGHTS = torch.tensor([1.0, -2.0, 0.5])


def pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return inputs, inputs @ WEIGHTS[:, None]


def task_of(num_samples: int = 96) -> Task:
    """A task whose sample has only zeros as targets."""
    inputs, targets = pairs(16, seed=1)
    return Task(
        model=lambda: nn.Linear(3, 1),
        train=TensorDataset(inputs, torch.zeros_like(targets)),
        validation=TensorDataset(inputs, targets),
        test=TensorDataset(inputs, targets),
        loss=nn.functional.mse_loss,
        metrics={"error": Metric(lambda outputs, targets: (outputs - targets).square().mean(1), goal="min", unit="x")},
        example_input=inputs[:1],
        stream=Stream(dataset=lambda: None, num_samples=num_samples),
    )


def passes(batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Read 100 pairs, incomplete batches left out."""
    inputs, targets = pairs(100, seed)
    for start in range(0, 100 - batch_size + 1, batch_size):
        yield inputs[start : start + batch_size], targets[start : start + batch_size]


SETTINGS = TrainSettings(epochs=20, batch_size=8, optimizer="adam", lr=0.05)


def test_a_model_learns_from_the_stream_and_not_from_the_sample() -> None:
    told: list[TrainingProgress] = []
    model = nn.Linear(3, 1)
    losses = fit(model, Bench(task_of(), Ranks.alone(), report=told.append, passes=passes), SETTINGS)
    assert len(losses) == len(told) == 20
    assert losses[-1] < 1e-3
    assert torch.allclose(model.weight.detach()[0], WEIGHTS, atol=0.02)


def test_a_stream_that_is_shorter_than_it_says_fails_the_trial() -> None:
    with pytest.raises(TrialFailed, match=r"a pass ended after 12 of 25 steps; `num_samples` must not be more"):
        fit(nn.Linear(3, 1), Bench(task_of(200), Ranks.alone(), passes=passes), SETTINGS)


def test_a_batch_that_looks_unlike_the_example_fails_the_trial() -> None:
    wide = lambda size, seed: ((inputs.double(), targets) for inputs, targets in passes(size, seed))  # noqa: E731
    with pytest.raises(TrialFailed, match=r"must look like example_input, and are \[3\] of torch.float64"):
        fit(nn.Linear(3, 1), Bench(task_of(), Ranks.alone(), passes=wide), SETTINGS)


def test_a_stream_without_a_cluster_is_told() -> None:
    with pytest.raises(TrialFailed, match="only by the workers of a cluster"):
        fit(nn.Linear(3, 1), Bench(task_of(), Ranks.alone()), SETTINGS)


def test_a_batch_that_the_workers_cannot_share_equally_is_told() -> None:
    with pytest.raises(WrongInput, match="a multiple of the number of workers"):
        fit(nn.Linear(3, 1), Bench(task_of(), Ranks(0, 3, torch.device("cpu")), passes=passes), SETTINGS)


def test_a_task_with_a_stream_is_checked_and_named_by_its_length() -> None:
    check_task(task_of())
    assert data_digest(task_of(96)) != data_digest(task_of(97))
    with pytest.raises(WrongInput, match="must be at least 1"):
        check_task(task_of(0))
    with pytest.raises(WrongInput, match=r"Stream\(dataset=function"):
        check_task(replace(task_of(), stream="s3://bucket/data"))  # type: ignore[arg-type]
