"""Folding merges a norm into the layer whose channels it scales, leaves every other norm alone, and thaws nothing."""

from collections.abc import Sequence

import pytest
import torch
from quantized_models import bench_of, images, quantized
from torch import Tensor, nn

from paretta.pipelines.quantization.layer_graph import fold_batch_norms
from paretta.pipelines.stage import stage_of
from paretta.search_spaces.canonical import Document


def warmed(layers: Sequence[nn.Module], inputs: Tensor) -> nn.Sequential:
    """A model whose norms have moments and gains that are not plain."""
    torch.manual_seed(3)
    model = nn.Sequential(*layers)
    for norm in model:
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.normal_(norm.bias)
    with torch.no_grad():
        for scale in (1.0, 2.0, 3.0):
            model.train()(inputs * scale + 1)
    return model.eval()


LAYERS = {
    "linear, norm without gain": [nn.Linear(12, 8), nn.BatchNorm1d(8, affine=False)],
    "linear without bias": [nn.Linear(12, 8, bias=False), nn.BatchNorm1d(8)],
    "convolution, norm without gain": [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False)],
    "convolution without bias": [nn.Conv1d(3, 8, 3, bias=False), nn.BatchNorm1d(8)],
    "depthwise": [nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)],
}
STAYING = {
    "tokens": [nn.Linear(12, 8), nn.BatchNorm1d(5)],
    "as many tokens as features": [nn.Linear(12, 5), nn.BatchNorm1d(5)],
    "after an activation": [nn.Linear(12, 8), nn.ReLU(), nn.BatchNorm1d(5)],
    "transposed": [nn.ConvTranspose1d(5, 4, 3), nn.BatchNorm1d(4)],
}


def inputs_for(first: nn.Module) -> Tensor:
    shapes = {nn.Linear: (16, 12), nn.Conv2d: (16, 3, 8, 8), nn.Conv1d: (16, 3, 9)}
    return torch.randn(shapes[type(first)], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_folded_norm_leaves_the_answers_as_they_were(kind: str) -> None:
    inputs = inputs_for(LAYERS[kind][0])
    model = warmed(LAYERS[kind], inputs)
    expected = model.double()(inputs.double()).float()
    assert fold_batch_norms(model.float(), inputs[:1]) == {}
    assert isinstance(model[1], nn.Identity)
    torch.testing.assert_close(model(inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", STAYING)
def test_a_norm_over_anything_else_stays(kind: str) -> None:
    inputs = torch.randn(16, 5, 12, generator=torch.Generator().manual_seed(1))
    model = warmed(STAYING[kind], inputs)
    expected = model(inputs)
    kept = fold_batch_norms(model, inputs[:1])
    assert torch.equal(model(inputs), expected)
    assert list(kept) == [str(len(model) - 1)]
    assert isinstance(model[-1], nn.BatchNorm1d)


class NormThatDoubles(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class NormThatActs(nn.BatchNorm2d):
    """Holds the activation after it, as timm's networks do."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


class ForgetsItsBias(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight)


class UsesParameters(nn.Module):
    """Calls neither its convolution nor its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        norm, x = self.norm, nn.functional.conv2d(x, self.layer.weight, self.layer.bias)
        return nn.functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def doubled(_: nn.Module, __: object, output: Tensor) -> Tensor:
    return 2 * output


def hooked(norm: nn.Module) -> nn.Module:
    norm.register_forward_hook(doubled)
    return norm


OWN = {
    "norm of a class of its own": lambda: [nn.Conv2d(3, 8, 3), NormThatDoubles(8)],
    "norm with a hook": lambda: [nn.Conv2d(3, 8, 3), hooked(nn.BatchNorm2d(8))],
    "convolution of a class of its own": lambda: [ForgetsItsBias(3, 8, 3), nn.BatchNorm2d(8)],
    "neither is called": lambda: [UsesParameters()],
}


@pytest.mark.parametrize("kind", OWN)
def test_a_norm_stays_where_the_pair_computes_more_than_both(kind: str) -> None:
    inputs = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    model = warmed(OWN[kind](), inputs)
    expected = model(inputs)
    fold_batch_norms(model, torch.zeros(1, 3, 8, 8))
    assert torch.equal(model(inputs), expected)


@pytest.mark.parametrize("stage", ["fold_norms", "quantize"])
def test_a_norm_that_stays_is_named_with_the_reason(stage: str) -> None:
    inputs = images(32)
    layers = [nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3), hooked(nn.BatchNorm2d(4))]
    alone = [nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)]
    model = warmed([*layers, *alone, nn.Flatten(), nn.Linear(400, 10)], inputs)
    bench = bench_of(model, inputs)
    stage_of({"kind": stage}).apply(model, bench)
    assert {note.layers: note.reason for note in bench.notes if "folded" in note.reason and note.layers} == {
        ("0",): "not folded: no layer that runs once, and whose result it alone reads, stands right before",
        ("2",): "not folded: merged into '1' it would answer differently",
        ("4",): "not folded: it takes the mean and variance of each batch",
    }


def test_a_norm_that_holds_an_activation_leaves_it() -> None:
    inputs = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    model = warmed([nn.Conv2d(3, 8, 3), NormThatActs(8)], inputs)
    expected = model(inputs)
    fold_batch_norms(model, torch.zeros(1, 3, 8, 8))
    torch.testing.assert_close(model(inputs), expected, rtol=1e-4, atol=1e-5)
    assert [type(module) for module in model[1].modules()] == [nn.Sequential, nn.ReLU]


STAGES: list[Document] = [
    {"kind": "fold_norms"},
    {"kind": "quantize", "bits": 4},
    {"kind": "cluster", "values": 8},
    {"kind": "cluster", "values": 8, "scope": "global"},
]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: "-".join(str(value) for value in stage.values()))
def test_what_is_frozen_stays_frozen_and_does_not_move(stage: Document) -> None:
    inputs = images(64)
    layers = [nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)]
    model = warmed([*layers, nn.Flatten(), nn.Linear(256, 10)], inputs)
    model[:3].requires_grad_(False)
    model[3].requires_grad_(False)
    bench = bench_of(model, inputs)
    model = stage_of(stage).apply(model, bench)
    learning = {name.split(".")[0] for name, value in model.named_parameters() if value.requires_grad}
    assert learning == {"6"}
    before, head = [model[place].weight.clone() for place in (0, 3)], model[6].weight.clone()
    train = stage_of({"kind": "train", "epochs": 1, "lr": 0.05, "batch_size": 32})
    model = train.apply(model, bench)
    assert all(torch.equal(model[place].weight, old) for place, old in zip((0, 3), before, strict=True))
    assert not torch.equal(model[6].weight, head)


def test_a_frozen_norm_behind_a_layer_that_learns_gives_a_frozen_bias() -> None:
    inputs = images(16)
    model = warmed([nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)], inputs)
    model[1].requires_grad_(False)
    model = quantized(model, inputs, 8)
    assert not model[0].bias.requires_grad
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if "weight" in name)


def test_frozen_attention_stays_frozen_when_it_is_taken_apart() -> None:
    inputs = torch.randn(16, 5, 12, generator=torch.Generator().manual_seed(1))
    encoder = nn.TransformerEncoderLayer(12, 3, 16, batch_first=True).requires_grad_(False)
    model = quantized(nn.Sequential(encoder, nn.Flatten(), nn.Linear(60, 10)), inputs, 8)
    learning = {name.split(".")[0] for name, value in model.named_parameters() if value.requires_grad}
    assert learning == {"2"}
    assert any("q_proj" in name for name, _ in model.named_parameters())
