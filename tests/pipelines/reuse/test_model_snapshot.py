"""Models as plain data: whatever is written comes back equal to the bit, and the rest is not written."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from paretta.pipelines.model.attention import unfold_attention
from paretta.pipelines.model.masks import attach_mask
from paretta.pipelines.reuse.model_snapshot import NotWritable, restored, snapshot


class Kept(nn.Module):
    """Keeps what plain data cannot say: a function, and a setting in an object."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.layer, self.scale, self.shape = nn.Linear(3, 3), lambda x: x * factor, torch.Size([3])
        self.act = partial(nn.functional.leaky_relu, negative_slope=0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.scale(self.layer(x)))


class Tied(nn.Module):
    """Two layers with one weight, and one layer in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
        self.two.weight = self.one.weight
        self.again = self.one

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.again(self.two(self.one(x)))


def encoder() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1, enable_nested_tensor=False)


def masked(model: nn.Module) -> nn.Module:
    layer = next(module for module in model.modules() if isinstance(module, nn.Linear))
    attach_mask(layer, torch.rand(layer.weight.shape) > 0.5)
    return unfold_attention(model)


@pytest.mark.parametrize(("make", "width"), [(Kept, 3), (Tied, 3), (encoder, 8)])
def test_it_computes_the_same(make: Callable[[], nn.Module], width: int) -> None:
    model = masked(make()).eval()
    written = snapshot(model, make())
    assert written is not None
    again = restored(written, make())
    inputs = torch.randn(2, 4, width)
    assert torch.equal(again(inputs), model(inputs))
    assert list(again.state_dict()) == list(model.state_dict())
    assert [name for name, _ in again.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert [module.training for module in again.modules()] == [module.training for module in model.modules()]


def test_it_is_a_copy() -> None:
    model = nn.Linear(2, 2)
    written = snapshot(model, nn.Linear(2, 2))
    assert written is not None
    with torch.no_grad():
        restored(written, nn.Linear(2, 2)).weight.zero_()
        expected = model.weight.clone()
        model.weight.zero_()
    assert torch.equal(restored(written, nn.Linear(2, 2)).weight, expected)


def changed(model: Kept) -> Kept:
    model.scale = Kept(3.0).scale
    return model


def watched(model: Kept) -> Kept:
    model.register_forward_hook(lambda module, inputs, output: output + 1)
    return model


def renormed(model: Kept) -> Kept:
    nn.utils.parametrizations.weight_norm(model.layer)  # two tensors behind one
    return model


@pytest.mark.parametrize("change", [changed, watched, renormed])
def test_what_it_cannot_say_is_not_written(change: Callable[[Kept], Kept]) -> None:
    assert snapshot(change(Kept()), Kept()) is None


def test_a_file_cannot_name_a_class_from_elsewhere() -> None:
    written = snapshot(nn.Linear(2, 2), nn.Linear(2, 2))
    assert written is not None
    for name in ("subprocess:Popen", "torch.nn.modules.linear:torch", "test_snapshot:Tied"):
        with pytest.raises(NotWritable):
            restored({**written, "class": name}, nn.Linear(2, 2))
