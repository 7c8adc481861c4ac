"""Batches in parts, recomputed activations and other precisions lead to the gradient of the whole batch."""

import logging
from dataclasses import replace
from functools import partial

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench, TrainingProgress, seeded
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stage_of
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.tasks.digits import correct
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit
from paretta.search_spaces.errors import WrongInput


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(64, 5)
    )


def image_task(make: object = net, labels: Tensor | None = None) -> Task:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 5 if labels is None else labels
    data = TensorDataset(torch.randn(48, 3, 6, 6, generator=generator), labels)
    metrics = {"accuracy": Metric(correct)}
    return Task(make, data, data, data, functional.cross_entropy, metrics, torch.zeros(1, 3, 6, 6))  # type: ignore[arg-type]


def trained(task: Task, **settings: object) -> dict[str, Tensor]:
    """The state of the seeded network after two epochs of SGD."""
    with seeded(0):
        model = task.new_model()
    chosen = {"epochs": 2, "batch_size": 16, "optimizer": "sgd", "lr": 0.1, **settings}
    fit(model, Bench(task, Ranks.alone(), seed=1), TrainSettings.model_validate(chosen))
    return model.state_dict()


def differs(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("ignored", [0, 20])
@pytest.mark.parametrize("more", [{}, {"label_smoothing": 0.1, "gradient_clip": 0.5}])
def test_a_batch_in_parts_gives_the_same_result(ignored: int, more: dict[str, object]) -> None:
    labels = torch.arange(48) % 5
    labels[:ignored] = -100
    still = partial(lambda: nn.Sequential(*(m for m in net() if not isinstance(m, nn.Dropout))))
    task = image_task(still, labels)
    whole = trained(task, **more)
    assert differs(trained(task, accumulate=4, **more), whole) < 1e-6
    assert differs(trained(task, batch_size=8, **more), whole) > 1e-3, "smaller batches give another result"


def test_a_penalty_counts_once_for_a_batch_in_parts() -> None:
    still = partial(lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 5)))
    task, tweaks = image_task(still), [{"kind": "l2_penalty", "strength": 0.5}]
    assert differs(trained(task, accumulate=4, tweaks=tweaks), trained(task, tweaks=tweaks)) < 1e-6


def test_lbfgs_searches_along_the_whole_batch_s_gradient() -> None:
    task = image_task(lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 5)))
    # one step of many searches; near the minimum a second one magnifies how a machine rounds the sum of four parts
    more = {"optimizer": "lbfgs", "batch_size": 48, "epochs": 1, "tweaks": [{"kind": "l2_penalty", "strength": 0.1}]}
    whole = trained(task, **more)
    assert differs(trained(task, accumulate=4, **more), whole) < 1e-5
    assert differs(trained(task, **{**more, "batch_size": 12}), whole) > 1e-2, "smaller batches give another result"


def test_a_loss_that_compares_samples_is_not_computed_in_parts() -> None:
    def apart(outputs: Tensor, targets: Tensor) -> Tensor:
        return -torch.pdist(outputs).mean()

    with pytest.raises(WrongInput, match=r"accumulate: .* cannot be computed in parts; got 2; set accumulate: 1"):
        trained(replace(image_task(), loss=apart), accumulate=2)


def test_parts_that_do_not_divide_are_told_where_the_file_is_read() -> None:
    with pytest.raises(WrongInput, match=r"`accumulate` must divide `batch_size`; 10 in 4 parts leaves 2, so set"):
        stage_of({"kind": "train", "batch_size": 10, "accumulate": 4})
    with pytest.raises(WrongInput, match="a part must have one"):
        trained(image_task(), batch_size=128, accumulate=64)


def classified(*block: nn.Module) -> nn.Module:
    """A block that is recomputed, and a classifier after it."""
    return nn.Sequential(nn.Sequential(*block), nn.Flatten(), nn.Linear(64, 5))


def test_recomputed_activations_give_the_same_bits() -> None:
    task = image_task(lambda: classified(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.2)))
    assert differs(trained(task, recompute=["0"]), trained(task)) == 0.0
    with pytest.raises(WrongInput, match=r"recompute: no module is called 'layer\*'; .*known: 0"):
        trained(task, recompute=["layer*"])


def test_recomputed_activations_are_computed_twice() -> None:
    passes: list[bool] = []

    class Counting(nn.ReLU):
        def forward(self, values: Tensor) -> Tensor:
            passes.append(self.training)
            return super().forward(values)

    task = image_task(lambda: classified(nn.Conv2d(3, 4, 3), Counting(), nn.Conv2d(4, 4, 1)))
    trained(task)
    once = sum(passes)  # in evaluation, the number of classes is looked at once a task
    trained(task, recompute=["0"])
    assert sum(passes) == 3 * once


def test_the_model_is_as_it_was_after_training() -> None:
    task = image_task()
    model = task.new_model()
    settings = TrainSettings(recompute=("0",), channels_last=True, batch_size=16)
    fit(model, Bench(task, Ranks.alone()), settings)
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_channels_last_reaches_the_model_and_changes_rounding_only() -> None:
    seen: list[bool] = []

    class Looking(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            if self.training:
                seen.append(images.is_contiguous(memory_format=torch.channels_last))
            return super().forward(images)

    task = image_task(lambda: nn.Sequential(Looking(3, 4, 3), nn.Flatten(), nn.Linear(64, 5)))
    plain, other = trained(task), trained(task, channels_last=True)
    assert seen == [False] * 6 + [True] * 6
    assert differs(plain, other) < 1e-5


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_follows_float32(precision: str, caplog: pytest.LogCaptureFixture) -> None:
    task = image_task(lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 5)))
    with caplog.at_level(logging.WARNING):
        found = trained(task, precision=precision, lr=0.01)
    assert all(tensor.dtype == torch.float32 for tensor in found.values())
    assert 0 < differs(found, trained(task, lr=0.01)) < 2e-3
    assert ("float16 is emulated on a CPU" in caplog.text) is (precision == "float16")


def test_steps_that_overflow_in_float16_are_left_out() -> None:
    """The first scale, 65536, makes these gradients infinite; the scaler halves it until they are not."""
    task = image_task(lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 5)))
    task = replace(task, loss=lambda outputs, targets: 100 * functional.cross_entropy(outputs, targets))
    model = task.new_model()
    settings = TrainSettings(precision="float16", lr=1e-4, epochs=8, batch_size=16, optimizer="sgd")
    losses = fit(model, Bench(task, Ranks.alone()), settings)
    assert losses[-1] < losses[0]


def test_compiled_training_is_that_of_the_model_which_stays_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    task = image_task(lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 5)))
    assert differs(trained(task, compile=True), trained(task)) < 1e-6


def test_what_cannot_be_compiled_is_told_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: nn.Module) -> object:
        def call(*_: object) -> None:
            raise RuntimeError("no compiler")

        return call

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(WrongInput, match=r"compile: torch.compile cannot train this model here: RuntimeError: no comp"):
        trained(image_task(), compile=True)


def test_the_epoch_tells_its_norm_speed_and_where_its_time_went() -> None:
    told: list[TrainingProgress] = []
    inputs = torch.arange(1.0, 9.0)[:, None]
    data = TensorDataset(inputs, 2 * inputs)
    task = Task(lambda: nn.Linear(1, 1, bias=False), data, data, data, functional.mse_loss, {}, torch.ones(1, 1))
    model = task.new_model()
    nn.init.zeros_(model.weight)  # type: ignore[arg-type]
    fit(model, Bench(task, Ranks.alone(), report=told.append), TrainSettings(batch_size=8, gradient_clip=0.1))
    (progress,) = told
    assert progress.gradient_norm == pytest.approx(sum(4 * x * x for x in range(1, 9)) / 8), "before clipping"
    assert progress.samples_per_second > 0
    assert sorted(progress.shares) == ["communication", "computing", "loading", "measuring"]
    assert sum(progress.shares.values()) == pytest.approx(1.0)


def test_lbfgs_takes_no_groups_and_no_float16() -> None:
    for more in ({"precision": "float16"}, {"layer_decay": 0.5}):
        with pytest.raises(ValidationError, match="choose another `optimizer`"):
            TrainSettings.model_validate({"optimizer": "lbfgs", **more})
