"""Groups of parameters, schedules, averaged weights and early stopping do what torch's own do."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench, TrainingProgress, seeded
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stage_of
from paretta.pipelines.task import Task
from paretta.pipelines.training.averages import AveragedWeights
from paretta.pipelines.training.evaluate import mean_loss
from paretta.pipelines.training.optimizers import (
    ParameterGroup,
    groups_by_name,
    layer_factors,
    lr_factor,
    optimizer_for,
)
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit
from paretta.pipelines.tweak import Tweak
from paretta.search_spaces.errors import WrongInput


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))


def task() -> Task:
    generator = torch.Generator().manual_seed(0)
    train, other = (TensorDataset(torch.randn(32, 4, generator=generator), torch.arange(32) % 2) for _ in range(2))
    return Task(net, train, other, other, functional.cross_entropy, {}, torch.zeros(1, 4))


def moved(**settings: object) -> dict[str, float]:
    """How far one step of SGD moves each parameter."""
    with seeded(0):
        model = net()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    chosen = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "batch_size": 32, "schedule": "constant", **settings}
    fit(model, Bench(task(), Ranks.alone()), TrainSettings.model_validate(chosen))
    assert all(parameter.requires_grad for parameter in model.parameters())
    return {name: float((parameter - before[name]).detach().norm()) for name, parameter in model.named_parameters()}


def test_groups_freeze_and_slow_their_parameters() -> None:
    plain = moved()
    found = moved(groups=[{"names": ["0.*"], "frozen": True}, {"names": ["1.weight"], "lr": 0.1}])
    assert found["0.weight"] == found["0.bias"] == 0.0
    assert found["1.weight"] == pytest.approx(0.1 * plain["1.weight"], rel=1e-4)
    assert found["2.weight"] == pytest.approx(plain["2.weight"], rel=1e-6)


def test_each_layer_learns_slower_than_the_next() -> None:
    plain, found = moved(), moved(layer_decay=0.5)
    for layer, share in (("0", 0.25), ("1", 0.5), ("2", 1.0)):
        assert found[f"{layer}.weight"] == pytest.approx(share * plain[f"{layer}.weight"], rel=1e-4)
    assert layer_factors(["layer1.0.conv.weight", "layer1.0.norm.bias", "layer1.1.conv.weight", "fc.weight"], 0.1) == {
        "layer1.0.conv.weight": pytest.approx(0.01),
        "layer1.0.norm.bias": pytest.approx(0.01),
        "layer1.1.conv.weight": pytest.approx(0.1),
        "fc.weight": 1.0,
    }


def test_a_group_has_its_own_decay_and_the_first_match_wins() -> None:
    model = net()
    groups = (ParameterGroup(names=("0.bias",), weight_decay=0.3), ParameterGroup(names=("0.*",), lr=2.0))
    optimizer = optimizer_for(
        dict(model.named_parameters()),
        "adamw",
        lr=0.1,
        momentum=0.9,
        weight_decay=0.01,
        groups=groups_by_name(model, groups),
    )
    found = {
        name: (group["weight_decay"], group["lr_factor"])
        for group in optimizer.param_groups
        for name, parameter in model.named_parameters()
        if any(parameter is other for other in group["params"])
    }
    assert found["0.bias"] == (0.3, 1.0)
    assert found["0.weight"] == (0.01, 2.0)
    assert found["1.weight"] == (0.01, 1.0)
    assert found["1.bias"] == (0.0, 1.0)


def test_a_pattern_without_a_parameter_is_named() -> None:
    with pytest.raises(WrongInput, match=r"groups: .*stem"):
        moved(groups=[{"names": ["stem.*"], "frozen": True}])


@pytest.mark.parametrize("group", [{"names": ["a"]}, {"names": ["a"], "frozen": True, "lr": 0.5}, {"names": []}])
def test_a_group_that_says_nothing_is_refused(group: dict[str, object]) -> None:
    with pytest.raises(WrongInput, match="groups"):
        stage_of({"kind": "train", "groups": [group]})


@pytest.mark.parametrize("power", [1.0, 0.9, 3.0])
def test_polynomial_and_linear_are_torch_s_own(power: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=20, power=power)
    for step in range(20):
        assert lr_factor("polynomial", step, 20, power=power) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        if power == 1.0:
            assert lr_factor("linear", step, 20) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


class Follow(Tweak):
    """Averages the model by torch's own AveragedModel."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.averaged: AveragedModel | None = None

    def after_step(self, step: int, model: nn.Module) -> None:
        if self.averaged is None:
            self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(self.decay))
        self.averaged.update_parameters(model)


def test_averaged_weights_are_torch_s_own_and_kept() -> None:
    follow, model = Follow(0.8), net()
    fit(model, Bench(task(), Ranks.alone()), TrainSettings(epochs=3, batch_size=8, lr=0.1, ema=0.8), tweaks=[follow])
    assert follow.averaged is not None
    for mine, theirs in zip(model.parameters(), follow.averaged.module.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-7)


def test_the_training_goes_on_with_its_own_weights() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    average = AveragedWeights([parameter], 0.5)
    for value in (1.0, 2.0):
        with torch.no_grad():
            parameter.fill_(value)
        average.update()
    with average.in_place():
        assert parameter.tolist() == [1.5, 1.5]
    assert parameter.tolist() == [2.0, 2.0]


def test_early_stopping_keeps_the_best_epoch() -> None:
    """The labels of validation are noise, so the validation loss soon rises."""
    losses: list[float] = []
    given = task()

    def watch(progress: TrainingProgress) -> None:
        losses.append(mean_loss(model, given, Ranks.alone()))
        model.train()

    with seeded(0):
        model = net()
    bench = Bench(given, Ranks.alone(), report=watch)
    found = fit(model, bench, TrainSettings(epochs=60, batch_size=8, lr=0.05, patience=3))
    best = min(range(len(losses)), key=losses.__getitem__)
    assert len(found) == len(losses) == best + 4 < 60
    assert mean_loss(model, given, Ranks.alone()) == losses[best]


def test_early_stopping_judges_and_keeps_averaged_weights() -> None:
    given, follow, losses = task(), Follow(0.9), list[float]()

    def watch(_: TrainingProgress) -> None:
        assert follow.averaged is not None
        losses.append(mean_loss(follow.averaged.module, given, Ranks.alone()))

    model = net()
    settings = TrainSettings(epochs=60, batch_size=8, lr=0.05, patience=2, ema=0.9)
    fit(model, Bench(given, Ranks.alone(), report=watch), settings, tweaks=[follow])
    assert len(losses) < 60
    assert mean_loss(model, given, Ranks.alone()) == pytest.approx(min(losses), rel=1e-6)
