"""A loss means the same on one worker and on two, whatever weighs its terms."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset
from two_ranks import be_a_rank, run_on_two_ranks

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.losses.global_loss import is_mean_over
from paretta.pipelines.pruning.gradient_pass import gradients
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stages.distill import Distill
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit

WEIGHTS = torch.tensor([1.0, 5.0, 50.0])
SETTINGS = {"epochs": 2, "lr": 0.05, "batch_size": 16, "optimizer": "sgd", "label_smoothing": 0.1}


def class_weights(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, weight=WEIGHTS)


def mean_of_samples(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over each sample's tokens that count, then over samples, however many tokens each of them has."""
    mask = targets != -100
    losses = functional.cross_entropy(outputs, targets, reduction="none") * mask
    return (losses.sum(1) / mask.sum(1).clamp_min(1)).mean()


def between_samples(outputs: Tensor, targets: Tensor) -> Tensor:
    """Compares all samples of a batch with each other, so it is no mean over samples."""
    gaps = (outputs[:, None] - outputs[None]).square().sum(-1)
    same = targets[:, None] == targets[None]
    return torch.where(same, gaps, (2 - gaps).clamp_min(0)).mean()


def task_of(kind: str) -> Task:
    generator = torch.Generator().manual_seed(0)
    if kind in ("class weights", "plain", "between samples"):
        inputs, targets = torch.randn(63, 12, generator=generator), torch.randint(0, 3, (63,), generator=generator)
        losses = {"class weights": class_weights, "between samples": between_samples}
        loss = losses.get(kind, functional.cross_entropy)
        model: nn.Module = nn.Linear(12, 3)
    else:
        inputs, targets = (
            torch.randn(64, 4, 10, generator=generator),
            torch.randint(0, 3, (64, 10), generator=generator),
        )
        for row, length in enumerate(torch.randint(1, 11, (64,), generator=generator).tolist()):
            targets[row, length:] = -100
        if kind == "few labels":
            targets[torch.rand(64, generator=generator) < 0.9] = -100
        loss = mean_of_samples if kind == "mean of samples" else functional.cross_entropy
        model = nn.Conv1d(4, 3, 3, padding=1)
    metric = Metric(lambda outputs, _: outputs.flatten(1).mean(1), unit="1")
    data = TensorDataset(inputs, targets)
    with seeded(1):
        model.reset_parameters()  # type: ignore[operator]
    return Task(model, data, data, data, loss, {"mean": metric}, inputs[:1])


KINDS = ("plain", "class weights", "ignored labels", "few labels", "mean of samples", "between samples")


def work(ranks: Ranks, folder: Path) -> None:
    for kind in KINDS:
        task = task_of(kind)
        trained, distilled, teacher = task.new_model(), task.new_model(), task.new_model()
        with torch.no_grad():
            for parameter in teacher.parameters():
                parameter.mul_(3)
        losses = fit(trained, Bench(task, ranks, seed=3), TrainSettings.model_validate(SETTINGS))
        Distill.model_validate({**SETTINGS, "label_smoothing": 0}).apply(distilled, Bench(task, ranks, 3, teacher))
        slopes = gradients(task.new_model(), Bench(task, ranks, seed=3), 40)
        if ranks.is_first:
            found = [*trained.parameters(), *distilled.parameters(), *slopes.mean.values(), torch.tensor(losses)]
            torch.save([tensor.detach() for tensor in found], folder / f"{kind}.pt")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    work(Ranks.alone(), one)
    run_on_two_ranks(__file__, two)
    return one, two


@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_learn_what_one_does(folders: tuple[Path, Path], kind: str) -> None:
    one, two = (torch.load(folder / f"{kind}.pt") for folder in folders)
    start = task_of(kind).new_model().state_dict()
    assert not torch.allclose(one[0], start["weight"], atol=1e-3), "something was learned"
    for here, there in zip(one, two, strict=True):
        assert torch.allclose(here, there, atol=2e-6), (here - there).abs().max()


@pytest.mark.parametrize(
    ("kind", "labels", "samples"),
    [
        ("plain", True, True),
        ("class weights", False, False),
        ("ignored labels", True, False),
        ("mean of samples", False, True),
        ("between samples", False, False),
    ],
)
def test_what_a_loss_is_a_mean_over_is_found(kind: str, labels: bool, samples: bool) -> None:
    task = task_of(kind)
    assert isinstance(task.train, TensorDataset)
    inputs, targets = (tensor[:16] for tensor in task.train.tensors)
    outputs = task.new_model()(inputs).detach()
    assert is_mean_over(task, outputs, targets, "labels") == labels
    assert is_mean_over(task, outputs, targets, "samples") == samples


def test_the_weight_of_a_class_that_the_batch_lacks_is_found() -> None:
    rare = torch.tensor([1.0, 1.0, 9.0])
    task = replace(task_of("plain"), loss=lambda o, t: functional.cross_entropy(o, t, weight=rare))
    outputs = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    assert not is_mean_over(task, outputs, torch.arange(16) % 2, "labels")


if __name__ == "__main__":
    be_a_rank(work)
