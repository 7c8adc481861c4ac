"""Pruned models are physically smaller, keep the right channels, and still run, whatever their wiring."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.importance import Rows
from paretta.pipelines.importance.l1 import L1, l1
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stages.prune import Prune, num_removed
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.tasks.digits import correct
from paretta.search_spaces.errors import WrongInput


class Residual(nn.Module):
    """Two layers whose widths are tied by a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 8, 1)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.norm(self.stem(images)).relu()
        return self.head((stem + self.outer(self.inner(stem).relu())).mean((2, 3)))


class Supervised(nn.Module):
    """A second head reads the stem, in training alone, as in GoogLeNet (Szegedy et al., 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 12, 3)
        self.second, self.head = nn.Linear(8, 3), nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images).relu()
        scores: Tensor = self.head(self.inner(stem).relu().mean((2, 3)))
        return scores + self.second(stem.mean((2, 3))) if self.training else scores


class Concatenated(nn.Module):
    """One layer's channels are used twice, at different places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 6, 1), nn.Linear(14, 3)

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images).relu()
        return self.head(torch.cat([first, self.second(first)], 1).mean((2, 3)))


class InputSum(nn.Module):
    """A width that the data fixes, which no layer shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)[:, :6]
        return self.head(flat + self.layer(flat))


class PoolAndFlatten(nn.Sequential):
    """Layers in a row, then the mean over pixels and a head."""

    def __init__(self, *layers: nn.Module, width: int) -> None:
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))


def depthwise() -> nn.Module:
    layers = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 16, 1)
    return PoolAndFlatten(*layers, width=16)


def grouped() -> nn.Module:
    layers = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 1, groups=4), nn.GroupNorm(4, 16), nn.ReLU()
    return PoolAndFlatten(*layers, width=16)


def fully_convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 10), nn.ReLU(), nn.Linear(10, 3))


MODELS = [Residual, Concatenated, depthwise, grouped, fully_convolutional, perceptron]


def bench(make: Callable[[], nn.Module]) -> Bench:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(20, 1, 6, 6, generator=generator), torch.arange(20) % 3)
    metrics = {"accuracy": Metric(correct)}
    return Bench(
        Task(make, data, data, data, functional.cross_entropy, metrics, torch.zeros(1, 1, 6, 6)), Ranks.alone()
    )


def fresh(make: Callable[[], nn.Module]) -> nn.Module:
    with seeded(0):
        return make()


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("settings", [{}, {"scope": "global"}, {"importance": "taylor"}, {"round_to": 4}])
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
def test_any_wiring_gets_smaller_and_still_runs(
    make: Callable[[], nn.Module], settings: dict[str, object], sparsity: float
) -> None:
    model = Prune(sparsity=sparsity, **settings).apply(fresh(make), bench(make))
    assert count(model) < count(make())
    outputs = model(torch.randn(5, 1, 6, 6))
    assert outputs.shape == (5, 3)
    model.train()
    model(torch.randn(5, 1, 6, 6)).sum().backward()


def test_half_of_each_layer_goes_and_the_output_stays() -> None:
    model = Prune(sparsity=0.5).apply(fresh(Residual), bench(Residual))
    widths = {name: module.out_channels for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    assert widths == {"stem": 4, "inner": 6, "outer": 4}
    assert model.head.out_features == 3


def test_the_pruned_model_computes_what_zeroed_channels_would() -> None:
    """Independent of the graph library: silence the weakest neurons by hand and compare the answers."""
    reference, inputs = fresh(perceptron), torch.randn(7, 1, 6, 6)
    weakest = reference[1].weight.abs().sum(1).argsort()[:4]
    reference[1].weight.data[weakest], reference[1].bias.data[weakest] = 0.0, 0.0
    pruned = Prune(sparsity=0.4).apply(fresh(perceptron), bench(perceptron))
    assert pruned[1].out_features == 6
    assert torch.allclose(pruned(inputs), reference(inputs), atol=1e-6)


def test_global_pruning_takes_from_the_layer_that_can_spare_it() -> None:
    def two() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 3))

    model = fresh(two)
    # scores are relative to a layer's own mean: a layer with one strong neuron has nine that can go
    model[3].weight.data[1:] *= 1e-3
    pruned = Prune(sparsity=0.45, scope="global").apply(model, bench(two))
    assert (pruned[1].out_features, pruned[3].out_features) == (10, 1)


def test_no_sparsity_changes_nothing() -> None:
    model = fresh(Residual)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert Prune(sparsity=0.0).apply(model, bench(Residual)) is model
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_no_gradients_are_left_behind() -> None:
    model = Prune(sparsity=0.5, importance="taylor").apply(fresh(Residual), bench(Residual))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_width_fixed_by_the_data_stays_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    model = Prune(sparsity=0.5).apply(fresh(InputSum), bench(InputSum))
    assert (model.layer.out_features, model.head.in_features) == (6, 6)
    assert "layer keep their width: the model's forward depends on their number" in caplog.text
    assert "prune changed nothing" in caplog.text


def test_what_a_layer_in_training_alone_reads_keeps_its_width(caplog: pytest.LogCaptureFixture) -> None:
    pruned = Prune(sparsity=0.5).apply(fresh(Supervised), bench(Supervised))
    assert (pruned.stem.out_channels, pruned.inner.out_channels) == (8, 6)
    assert pruned.train()(torch.randn(4, 1, 8, 8)).shape == (4, 3)
    assert "stem keep their width: the model's forward depends on their number" in caplog.text


def test_an_activation_of_one_parameter_fits_any_width() -> None:
    layers = nn.Conv2d(1, 8, 3), nn.PReLU(), nn.Conv2d(8, 12, 3), nn.PReLU(12), nn.InstanceNorm2d(12, affine=True)
    model = fresh(lambda: nn.Sequential(*layers, nn.Flatten(), nn.Linear(48, 3)))
    pruned = Prune(sparsity=0.5).apply(model, bench(lambda: model))
    assert [len(parameter) for parameter in pruned.parameters()] == [4, 4, 1, 6, 6, 6, 6, 6, 3, 3]


def test_layers_with_computed_weights_stay_and_are_named(caplog: pytest.LogCaptureFixture) -> None:
    model = fresh(perceptron)
    parametrize.register_parametrization(model[1], "weight", nn.Identity())
    Prune(sparsity=0.5).apply(model, bench(perceptron))
    assert model[1].out_features == 10
    assert "1 keep their width: a weight of 1 is computed from other tensors" in caplog.text


def test_weight_norm_is_folded_before_channels_go() -> None:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(36, 10)), nn.ReLU(), nn.Linear(10, 3)
        )

    whole = fresh(make)
    weakest = whole[1].weight.abs().sum(1).argsort()[:5]
    expected = whole[1].weight[[row for row in range(10) if row not in weakest]]
    pruned = Prune(sparsity=0.5).apply(whole, bench(make))
    assert type(pruned[1]) is nn.Linear
    torch.testing.assert_close(pruned[1].weight, expected)


def test_frozen_parameters_stay_frozen_and_shared_ones_shared() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(36, 10), nn.Linear(10, 3)
            self.inner, self.again = nn.Linear(10, 10), nn.Linear(10, 10)
            self.again.weight = self.inner.weight
            self.first.requires_grad_(False)

        def forward(self, images: Tensor) -> Tensor:
            x = self.first(images.flatten(1))
            return self.last(x + self.again(x + self.inner(x).relu()))

    pruned = Prune(sparsity=0.5).apply(fresh(Shared), bench(Shared))
    assert pruned.first.out_features == 5
    assert [name for name, parameter in pruned.named_parameters() if not parameter.requires_grad] == [
        "first.weight",
        "first.bias",
    ]
    assert pruned.again.weight is pruned.inner.weight


def test_only_what_the_patterns_ask_for_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[tuple[int, ...]] = []

    def scores(_: L1, rows: Rows) -> Tensor:
        scored.append(tuple(rows.weight.shape))
        return l1(rows.weight)

    monkeypatch.setattr(L1, "scores", scores)
    Prune(sparsity={"inner": 0.5}).apply(fresh(Residual), bench(Residual))
    assert scored == [(12, 72)]


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (lambda rows: None, "'NoneType'"),
        (lambda rows: l1(rows.weight)[:3], r"\[3\]"),
        (lambda rows: l1(rows.weight) / 0, "inf"),
        (lambda rows: l1(rows.weight) * float("nan"), "nan"),
        (lambda rows: -l1(rows.weight), "-"),
    ],
)
def test_scores_that_cannot_be_compared_are_told(
    answer: Callable[[Rows], Tensor], got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(L1, "scores", lambda _, rows: answer(rows))
    rule = r"^L1: its scores must be a tensor \[12\] of finite values from 0 on; got "
    with pytest.raises(ValueError, match=rule + got):
        Prune(sparsity={"inner": 0.5}).apply(fresh(Residual), bench(Residual))


@given(width=st.integers(1, 600), percent=st.integers(0, 99), step=st.sampled_from([1, 4, 8]))
def test_widths_are_the_nearest_multiple_and_never_nothing(width: int, percent: int, step: int) -> None:
    kept = width - num_removed(width, percent / 100, step)
    wanted = width - width * percent // 100
    assert 1 <= kept <= width
    assert kept in (width, step) or kept % step == 0
    assert abs(kept - wanted) <= step / 2 or kept in (width, step)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_pattern_that_matches_no_layer_is_told_whatever_the_share(share: float) -> None:
    with pytest.raises(WrongInput, match="no layer is called 'backbone"):
        Prune(sparsity={"backbone.*": share}).apply(Residual(), bench(Residual))
