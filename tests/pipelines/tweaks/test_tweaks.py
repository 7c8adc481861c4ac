"""Tweaks do what their papers say, leave nothing behind after training, and can be resumed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench, TrainingProgress, seeded
from paretta.pipelines.model.weights import weights_of
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stages_of
from paretta.pipelines.state.checkpoint import Checkpoint
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.tasks.digits import correct
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit
from paretta.pipelines.tweak import Tweak, tweak_of
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan


class Interrupted(Exception):
    """Stands for a worker that is killed."""


def net() -> nn.Module:
    with seeded(1):
        return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3))


@pytest.fixture(scope="module")
def bench() -> Bench:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(64, 6, generator=generator), torch.arange(64) % 3)
    task = Task(net, data, data, data, functional.cross_entropy, {"accuracy": Metric(correct)}, torch.zeros(1, 6))
    return Bench(replace(task, source=data), Ranks.alone(), seed=5, teacher=net().eval())


def settings(tweak: Mapping[str, object], *, epochs: int = 5) -> TrainSettings:
    return TrainSettings.model_validate({"epochs": epochs, "batch_size": 16, "lr": 0.01, "tweaks": [tweak]})


def zeros(model: nn.Module) -> list[float]:
    return [float((weight.values == 0).float().mean()) for weight in weights_of(model)]


class Watch(Tweak):
    """Writes down how sparse the first layer is after each step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def after_step(self, step: int, model: nn.Module) -> None:
        self.seen.append(zeros(model)[0])


def test_weights_go_along_the_cubic_curve_and_stay_away(bench: Bench) -> None:
    watch, model = Watch(), net()
    tweak = {"kind": "gradual_sparsity", "sparsity": 0.9, "begin": 0.2, "end": 0.7, "updates": 5}
    fit(model, bench, settings(tweak), tweaks=[watch])
    # 20 steps: from 4 to 14, at 6, 8, 10, 12, 14
    expected = [0.0] * 20
    for k in range(1, 6):
        expected[4 + 2 * k - 1 :] = [int(120 * 0.9 * (1 - (1 - k / 5) ** 3) + 1e-6) / 120] * (20 - 4 - 2 * k + 1)
    assert watch.seen == pytest.approx(expected)
    assert zeros(model) == pytest.approx([0.9, 0.9])


def test_few_steps_still_reach_the_whole_sparsity(bench: Bench) -> None:
    model = net()
    fit(model, bench, settings({"kind": "gradual_sparsity", "sparsity": {"0": 0.5}, "updates": 50}, epochs=1))
    assert zeros(model) == [0.5, 0.0]


def test_only_the_smallest_weights_drop_and_none_after_training(bench: Bench) -> None:
    seen: list[Tensor] = []

    class Look(Tweak):
        def before_step(self, step: int, model: nn.Module) -> None:
            stored = next(weights_of(model)).stored.detach().abs()
            dropped = next(weights_of(model)).values.detach() == 0
            small = stored <= stored.sort(1).values[:, 2:3]
            assert not bool((dropped & ~small).any())
            seen.append(dropped)

    model = net()
    tweak = {"kind": "targeted_dropout", "target": 0.5, "rate": 0.5}
    fit(model, bench, settings(tweak, epochs=25), tweaks=[Look()])
    share = torch.stack(seen).float().mean().item()
    assert share == pytest.approx(0.25, abs=0.01)
    assert not any(parametrize.is_parametrized(module) for module in model.modules())
    assert zeros(model) == [0.0, 0.0]


def test_targeted_dropout_leaves_a_mask_in_place(bench: Bench) -> None:
    model = net()
    tweaks = [{"kind": "gradual_sparsity", "sparsity": 0.5}, {"kind": "targeted_dropout"}]
    fit(model, bench, TrainSettings.model_validate({"epochs": 2, "batch_size": 16, "tweaks": tweaks}))
    assert zeros(model) == [0.5, 0.5]
    assert [len(chain) for layer in (model[0], model[2]) for chain in layer.parametrizations.values()] == [1, 1]


def test_l2_sp_is_the_sum_written_out(bench: Bench) -> None:
    model = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 4))
    found = tweak_of({"kind": "l2_sp", "strength": 0.5, "fresh": 0.25}).start(model, bench, 1).penalty(model)
    held = sum(((model[0].get_parameter(n) - p) ** 2).sum() for n, p in bench.teacher[0].named_parameters())
    new = sum((p**2).sum() for p in model[2].parameters())
    assert found.item() == pytest.approx((0.5 / 2 * held + 0.25 / 2 * new).item(), rel=1e-5)


def test_replay_weighs_the_loss_of_source_batches_that_differ(bench: Bench) -> None:
    model, batches = net(), []
    rehearsal = tweak_of({"kind": "replay", "strength": 0.5, "batch_size": 8}).start(model, bench, 1)
    for step in (1, 2, 1):
        rehearsal.before_step(step, model)
        inputs, targets = (tensor[rehearsal.places] for tensor in bench.task.source.tensors)
        batches.append(rehearsal.places.tolist())
        expected = 0.5 * functional.cross_entropy(model(inputs), targets).item()
        assert rehearsal.penalty(model).item() == pytest.approx(expected)
    assert batches[0] == batches[2] != batches[1]


@pytest.mark.parametrize(
    "tweak",
    [
        {"kind": "gradual_sparsity", "sparsity": 0.8},
        {"kind": "targeted_dropout"},
        {"kind": "l2_sp"},
        {"kind": "replay"},
        {"kind": "bit_penalty", "strength": 1.0},
    ],
)
def test_an_interrupted_training_ends_the_same(bench: Bench, tmp_path: Path, tweak: Mapping[str, object]) -> None:
    def kill(progress: TrainingProgress) -> None:
        if progress.epoch == 2:
            raise Interrupted

    undisturbed, model = net(), net()
    fit(undisturbed, bench, settings(tweak))
    kept = replace(bench, checkpoint=Checkpoint(tmp_path))
    with pytest.raises(Interrupted):
        fit(net(), replace(kept, report=kill), settings(tweak))
    fit(model, kept, settings(tweak))
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("tweak", "told"),
    [
        ({"kind": "gradual_sparsity", "sparsity": "2:4"}, "an N:M pattern has no steps in between"),
        ({"kind": "gradual_sparsity", "sparsity": 0.5, "begin": 0.8}, "must begin before it ends"),
        ({"kind": "l2_sp", "source": "x.safetensors"}, "must be `baseline`, or the absolute path"),
        ({"kind": "l2_sp", "source": "/nowhere/x.safetensors"}, "names a file that does not exist"),
    ],
)
def test_what_cannot_be_is_refused(tweak: Mapping[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        tweak_of(tweak)


def test_replay_without_source_data_is_refused(bench: Bench) -> None:
    bare = replace(bench, task=replace(bench.task, source=None))
    with pytest.raises(WrongInput, match="the task has no source data"):
        tweak_of({"kind": "replay"}).start(net(), bare, 1)


def test_channels_do_not_go_after_a_training_that_masks() -> None:
    train = {"kind": "train", "tweaks": [{"kind": "gradual_sparsity", "sparsity": 0.5}]}
    with pytest.raises(WrongInput, match="cannot remove channels after `train`"):
        stages_of(Plan(stages=(train, {"kind": "prune", "sparsity": 0.5})))
