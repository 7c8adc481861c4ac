"""Metrics with a state: what they collect is kept once, resamples are fair, and several numbers are refused."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.losses.metric_scores import scores_by
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import WrongInput


class Mean:
    """The mean of outputs, from a sum and a count."""

    higher_is_better = False

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.total, self.count = self.total + float(outputs.sum()), self.count + len(outputs)

    def compute(self) -> float:
        return self.total / self.count


class Collected(Mean):
    """The same from all outputs, as exact AUROC and rank correlation collect them."""

    most = 0  # batches that all objects hold at a time, at their peak
    held = 0

    def reset(self) -> None:
        self.outputs: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.outputs.append(outputs)
        Collected.held += 1
        Collected.most = max(Collected.most, Collected.held)

    def compute(self) -> float:
        return float(torch.cat(self.outputs).double().mean())

    def __del__(self) -> None:
        Collected.held -= len(self.outputs)


def task_of(metric: Metric) -> Task:
    data = TensorDataset(torch.eye(3).repeat(6, 1), torch.arange(18) % 3)
    return Task(nn.Linear(3, 3), data, data, data, nn.functional.cross_entropy, {"quality": metric}, torch.eye(3)[:1])


def scored(metric: object, batches: Sequence[Tensor]) -> tuple[float, np.ndarray]:
    made = Metric(metric, "min", "points", arguments=lambda outputs, targets: (outputs, targets))
    taker = scores_by(made, task_of(made))
    for batch in batches:
        taker.update(batch, batch)
    found = taker.scored()
    assert found.num_samples == sum(map(len, batches))
    return found.value, found.resampled


BATCHES = [torch.randn(64, generator=torch.Generator().manual_seed(seed)) for seed in range(5)]


@pytest.mark.parametrize("kind", [Mean, Collected])
def test_the_interval_is_that_of_a_mean(kind: type[Mean]) -> None:
    value, resampled = scored(kind(), BATCHES)
    everything = torch.cat(BATCHES).double()
    assert value == pytest.approx(float(everything.mean()), abs=1e-6)
    expected = float(everything.std()) / len(everything) ** 0.5  # the standard error of a mean
    assert len(resampled) == 40
    assert resampled.std(ddof=1) == pytest.approx(expected, rel=0.4)  # 40 resamples know it to 11 %
    assert abs(resampled.mean() - value) < 4 * expected / 40**0.5


def test_both_kinds_see_the_same_resamples() -> None:
    assert scored(Mean(), BATCHES)[1] == pytest.approx(scored(Collected(), BATCHES)[1], abs=1e-6)


def test_what_a_metric_collects_is_not_kept_by_each_of_its_copies() -> None:
    Collected.most = Collected.held = 0
    scored(Collected(), BATCHES)
    assert Collected.most <= 2 * len(BATCHES) + 2  # the metric's own and one resample's, not 41 times


def test_a_split_of_one_sample_has_resamples_with_that_sample_only() -> None:
    value, resampled = scored(Mean(), [torch.tensor([2.5])])
    assert value == 2.5
    assert 0 < len(resampled) < 40  # a third of them draw no sample
    assert set(resampled.tolist()) == {2.5}


class Several(Mean):
    def compute(self) -> object:  # type: ignore[override]
        return {"first": 1.0, "second": 2.0}


class ByClass(Mean):
    def compute(self) -> object:  # type: ignore[override]
        return torch.ones(3)


class Nothing(Mean):
    def compute(self) -> object:  # type: ignore[override]
        return None


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        (Metric(Several(), "min", "points"), r"one number; got \['first', 'second'\]; .*collection_metrics"),
        (Metric(ByClass(), "min", "points"), r"not an array; got \[3\]; average over classes"),
        (Metric(Nothing(), "min", "points"), "compute must give one number; got 'NoneType'"),
        (Metric(Mean(), "max", "points"), r"higher_is_better is False; got 'max'; give Metric\(..., goal='min'\)"),
    ],
)
def test_check_refuses_what_is_not_one_number_or_has_the_other_goal(metric: Metric, told: str) -> None:
    with pytest.raises(WrongInput, match=told):
        check_task(task_of(metric), trains=False)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"../up.json": b""}, r"files: its name must be letters, .*; got '../up.json'"),
        ({"model.onnx": b""}, "none that a delivered folder has already"),
        ({"labels.txt": "cat"}, r"files\[labels.txt\]: must hold the file's content, as bytes; got 'str'"),
    ],
)
def test_check_refuses_files_that_cannot_be_delivered(files: dict[str, bytes], told: str) -> None:
    task = task_of(Metric(Mean(), "min", "points"))
    object.__setattr__(task, "files", files)
    with pytest.raises(WrongInput, match=told):
        check_task(task, trains=False)


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (lambda outputs, targets: torch.where(targets == 0, torch.nan, 1.0), "nan for 2 samples"),
        (lambda outputs, targets: torch.ones(len(targets), dtype=torch.complex64), "must be real numbers"),
    ],
)
def test_scores_of_samples_are_real_numbers(score: Callable[[Tensor, Tensor], Tensor], told: str) -> None:
    with pytest.raises(WrongInput, match=told):
        Metric(score, unit="points").scores(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))


def test_a_rate_without_samples_may_be_undefined_in_one_batch() -> None:
    undefined = Metric(lambda outputs, targets: torch.tensor(torch.nan), unit="points")
    assert bool(undefined.scores(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)).isnan())
