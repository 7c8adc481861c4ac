"""The loop follows the gradient of the global batch, repeats itself exactly, and notices divergence."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench, TrainingProgress, seeded
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stage_of
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.tasks.digits import make
from paretta.pipelines.training.batch import Batch
from paretta.pipelines.training.optimizers import lr_factor
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit, task_loss
from paretta.pipelines.tweak import Tweak, tweak_of
from paretta.search_spaces.errors import TrialFailed, WrongInput


def line_task() -> Task:
    """Eight points on y = 2 x, a model of one weight."""
    inputs = torch.arange(1.0, 9.0)[:, None]
    data = TensorDataset(inputs, 2 * inputs)
    metrics = {"error": Metric(lambda y, t: (y - t).abs()[:, 0], goal="min", unit="1")}
    return Task(lambda: one_weight(0.0), data, data, data, functional.mse_loss, metrics, torch.ones(1, 1))


def one_weight(value: float) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def bench(task: Task, seed: int = 0) -> Bench:
    return Bench(task, Ranks.alone(), seed=seed)


def test_one_step_of_sgd_is_the_mean_gradient() -> None:
    model = one_weight(0.0)
    fit(model, bench(line_task()), TrainSettings(lr=0.01, optimizer="sgd", batch_size=8, schedule="constant"))
    gradient = sum(2 * (0.0 - 2 * x) * x for x in range(1, 9)) / 8
    assert model.weight.item() == pytest.approx(-0.01 * gradient, rel=1e-6)


def test_clipping_bounds_the_step() -> None:
    model = one_weight(0.0)
    settings = TrainSettings(lr=0.5, optimizer="sgd", batch_size=8, schedule="constant", gradient_clip=0.1)
    fit(model, bench(line_task()), settings)
    assert model.weight.item() == pytest.approx(0.05, rel=1e-4)


def test_a_penalty_pulls_and_an_after_step_sees_every_step() -> None:
    class Pull(Tweak):
        def __init__(self) -> None:
            self.steps: list[int] = []

        def penalty(self, model: nn.Module) -> Tensor:
            return 1000 * (model.weight - 1).square().sum()

        def after_step(self, step: int, model: nn.Module) -> None:
            self.steps.append(step)

    pull, model = Pull(), one_weight(0.0)
    losses = fit(model, bench(line_task()), TrainSettings(lr=0.05, epochs=100, batch_size=4), tweaks=[pull])
    assert pull.steps == list(range(1, 201))
    assert model.weight.item() == pytest.approx((25.5 * 2 + 1000) / 1025.5, abs=0.01)
    assert losses[-1] < 100, "the penalty is not part of the loss that is reported"


def test_the_loss_given_sees_the_samples_places() -> None:
    seen: list[Tensor] = []

    def loss(outputs: Tensor, batch: Batch) -> Tensor:
        assert torch.equal(batch.targets[:, 0], 2 * (batch.indices + 1.0))
        seen.append(batch.indices)
        return functional.mse_loss(outputs, batch.targets)

    fit(one_weight(0.0), bench(line_task()), TrainSettings(batch_size=3, epochs=2), loss=loss)
    assert [len(indices) for indices in seen] == [3, 3, 3, 3], "the incomplete batch is left out"
    assert all(len(set(torch.cat(seen[i : i + 2]).tolist())) == 6 for i in (0, 2)), "no sample twice in an epoch"


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    task = make(width=4, hidden=8)

    def weights(seed: int) -> bytes:
        with seeded(0):
            model = task.new_model()
        torch.rand(seed + 1)  # the state of the global generator must not matter
        fit(model, bench(task, seed), TrainSettings(batch_size=256))
        return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())

    assert weights(0) == weights(0)
    assert weights(0) != weights(1)


def test_progress_is_told_after_each_epoch() -> None:
    told: list[TrainingProgress] = []
    fit(one_weight(0.0), replace(bench(line_task()), report=told.append, stage="train"), TrainSettings(epochs=3))
    assert [(progress.stage, progress.epoch, progress.num_epochs) for progress in told] == [
        ("train", 1, 3),
        ("train", 2, 3),
        ("train", 3, 3),
    ]
    assert told[0].loss > told[-1].loss


@pytest.mark.parametrize("lr", [10.0, 1e30])
def test_divergence_fails_the_trial(lr: float) -> None:
    settings = TrainSettings(lr=lr, optimizer="sgd", batch_size=4, epochs=30, schedule="constant")
    with pytest.raises(TrialFailed, match="diverged"):
        fit(one_weight(0.0), bench(line_task()), settings)


def test_a_loss_that_is_not_a_number_fails_the_trial() -> None:
    task = replace(line_task(), loss=lambda outputs, targets: (outputs * torch.nan).sum())
    with pytest.raises(TrialFailed, match="loss is nan at epoch 1"):
        fit(one_weight(0.0), bench(task), TrainSettings())


def test_decay_spares_biases_and_norms() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    task = replace(line_task(), loss=lambda outputs, targets: outputs.sum() * 0)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    fit(model, bench(task), TrainSettings(optimizer="adamw", lr=0.1, weight_decay=0.5, schedule="constant"))
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {"0.weight"}


def test_bfloat16_autocast_trains_too() -> None:
    model = one_weight(0.0)
    settings = TrainSettings(lr=0.2, epochs=100, precision="bfloat16", batch_size=8)
    fit(model, bench(line_task()), settings)
    assert model.weight.dtype == torch.float32
    assert model.weight.item() == pytest.approx(2.0, abs=0.05)


def test_a_batch_smaller_than_the_ranks_is_refused() -> None:
    lonely = replace(bench(line_task()), ranks=Ranks(0, 2, torch.device("cpu")))
    with pytest.raises(WrongInput, match="batch_size"):
        fit(one_weight(0.0), lonely, TrainSettings(batch_size=1))


def test_one_cycle_is_torch_s_own() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=50, cycle_momentum=False)
    for step in range(50):
        assert lr_factor("one-cycle", step, 50) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        if step < 49:
            theirs.step()


def test_cosine_is_torch_s_own() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert lr_factor("cosine", step, 20) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


@given(
    schedule=st.sampled_from(["constant", "step", "cosine", "one-cycle"]),
    num_steps=st.integers(1, 500),
    share=st.floats(0, 0.9),
)
def test_every_schedule_stays_between_nothing_and_all(schedule: str, num_steps: int, share: float) -> None:
    warmup = int(share * num_steps)
    factors = [lr_factor(schedule, step, num_steps, warmup) for step in range(num_steps)]
    assert all(0 < factor <= 1 + 1e-12 and math.isfinite(factor) for factor in factors)
    if schedule != "one-cycle":
        assert factors[:warmup] == sorted(factors[:warmup])
        assert factors[warmup:] == sorted(factors[warmup:], reverse=True)


def test_two_warm_ups_are_refused() -> None:
    with pytest.raises(ValidationError, match="own warm-up"):
        TrainSettings(schedule="one-cycle", warmup=0.1)


def test_decay_that_lbfgs_lacks_is_refused() -> None:
    with pytest.raises(ValidationError, match="add the tweak l2_penalty"):
        TrainSettings(optimizer="lbfgs", weight_decay=0.1)


def test_smoothed_labels_are_torch_s_own() -> None:
    outputs, targets = torch.randn(7, 5), torch.arange(7) % 5
    task = replace(line_task(), loss=functional.cross_entropy)
    found = task_loss(bench(task), TrainSettings(label_smoothing=0.2))(outputs, Batch(outputs, targets, targets))
    assert found.item() == pytest.approx(functional.cross_entropy(outputs, targets, label_smoothing=0.2).item())


def test_smoothing_without_classes_is_refused() -> None:
    with pytest.raises(WrongInput, match="must be class scores"):
        fit(one_weight(0.0), bench(line_task()), TrainSettings(label_smoothing=0.1))


def test_lbfgs_solves_least_squares_in_two_steps() -> None:
    model = one_weight(0.0)
    settings = TrainSettings(optimizer="lbfgs", lr=1.0, epochs=2, batch_size=8, schedule="constant")
    fit(model, bench(line_task()), settings)
    assert model.weight.item() == pytest.approx(2.0, abs=1e-4)


def test_adagrad_shrinks_its_steps_as_duchi_says() -> None:
    """With a constant gradient g the k-th step is lr g / sqrt(k g^2) = lr / sqrt(k)."""
    task = replace(line_task(), loss=lambda outputs, targets: outputs.mean())
    model = one_weight(0.0)
    fit(model, bench(task), TrainSettings(optimizer="adagrad", lr=0.1, epochs=3, batch_size=8, schedule="constant"))
    assert model.weight.item() == pytest.approx(-0.1 * (1 + 2**-0.5 + 3**-0.5), rel=1e-4)


def test_divergence_ends_an_epoch_in_its_midst() -> None:
    steps: list[int] = []

    class Count(Tweak):
        def after_step(self, step: int, model: nn.Module) -> None:
            steps.append(step)

    data = TensorDataset(torch.ones(400, 1), torch.ones(400, 1))
    task = replace(line_task(), train=data, loss=lambda outputs, targets: outputs.mean() * len(steps) ** 9 + 1)
    with pytest.raises(TrialFailed, match=r"loss rose from 1 to .* at epoch 1, step 17"):
        fit(one_weight(1.0), bench(task), TrainSettings(batch_size=1, lr=1e-9), tweaks=[Count()])
    assert len(steps) < 40


def test_penalties_are_the_sums_written_out() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, -4.0]]))
        model[1].weight.fill_(-5.0)
    for document, expected in (
        ({"kind": "l1_penalty", "strength": 2.0}, 14.0),
        ({"kind": "l1_penalty", "strength": 2.0, "on": "norm scales"}, 10.0),
        ({"kind": "l2_penalty", "strength": 2.0}, 25.0),
    ):
        assert tweak_of(document).start(model, bench(line_task()), 1).penalty(model).item() == expected


@pytest.mark.parametrize(
    ("tweak", "told"),
    [
        ({}, "a tweak needs a `kind`, one of: "),
        ({"kind": "l1_penalti"}, "did you mean 'l1_penalty'"),
        ({"kind": "l1_penalty", "strength": -1}, "l1_penalty.strength: must be greater than 0; got -1"),
    ],
)
def test_a_wrong_tweak_is_named(tweak: dict[str, object], told: str) -> None:
    with pytest.raises(WrongInput, match=told) as caught:
        stage_of({"kind": "train", "tweaks": [tweak]})
    assert "tweaks" in str(caught.value)
