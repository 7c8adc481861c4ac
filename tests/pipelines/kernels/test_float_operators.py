"""Between two quantised layers of well-known blocks nothing is computed in floats, but for what is named here."""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from quantized_models import images, quantized, task_of
from torch import Tensor, nn

from paretta.pipelines.export.agreement import checked_bytes
from paretta.pipelines.kernels.float_operators import floats_between, words_of
from paretta.pipelines.quantization.fake_quantize import HardGate
from paretta.pipelines.reuse.model_snapshot import restored, snapshot


class Squeezed(nn.Module):
    """An inverted bottleneck whose channels are gated by their means."""

    def __init__(self, act: Callable[[Tensor], Tensor], gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.expand, self.project = nn.Conv2d(8, 24, 1), nn.Conv2d(24, 8, 1)
        self.filter = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.down, self.up = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1)
        self.act, self.gate = act, gate

    def forward(self, values: Tensor) -> Tensor:
        wide = self.act(self.filter(self.act(self.expand(values))))
        gate = self.gate(self.up(F.relu(self.down(F.adaptive_avg_pool2d(wide, 1)))))
        return values + self.project(wide * gate)


class LinearSqueezed(nn.Module):
    """Gates of linear layers, as many write them."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.conv = nn.Linear(8, 4), nn.Linear(4, 8), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        gate = torch.sigmoid(self.up(F.relu(self.down(values.mean((2, 3))))))
        return F.leaky_relu(self.conv(values * gate[:, :, None, None]), 0.1)


class PreActivated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
        self.layers = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))

    def forward(self, values: Tensor) -> Tensor:
        made = values
        for norm, layer in zip(self.norms, self.layers, strict=True):
            made = layer(F.relu(norm(made)))
        return values + made


class Dense(nn.Module):
    """Every layer reads what all before it made, through a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 4 * place) for place in range(2))
        self.layers = nn.ModuleList(nn.Conv2d(8 + 4 * place, 4, 3, padding=1) for place in range(2))
        self.join = nn.Conv2d(16, 8, 1)

    def forward(self, values: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            values = torch.cat([values, layer(F.relu(norm(values)))], 1)
        joined: Tensor = self.join(values)
        return joined


class Scales(nn.Module):
    """A coarse scale is enlarged and added to the fine one, or put beside it."""

    def __init__(self, mode: str, *, beside: bool) -> None:
        super().__init__()
        self.coarse, self.fine = nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 1)
        self.join = nn.Conv2d(16 if beside else 8, 8, 3, padding=1)
        self.mode, self.beside = mode, beside

    def forward(self, values: Tensor) -> Tensor:
        fine, coarse = self.fine(values), F.interpolate(F.relu(self.coarse(values)), scale_factor=2.0, mode=self.mode)
        joined: Tensor = self.join(torch.cat([fine, coarse], 1) if self.beside else fine + coarse)
        return joined


class Moved(nn.Module):
    """Channels become pixels, and one half of them is added to the other."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.last = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(2, 8, 2, 2)

    def forward(self, values: Tensor) -> Tensor:
        first, second = F.pixel_shuffle(self.wide(values), 2).chunk(2, 1)
        moved: Tensor = self.last(first + second)
        return moved


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        rows: Tensor = self.layer(values.flatten(2).transpose(1, 2))
        return rows.transpose(1, 2).unflatten(2, values.shape[2:])


def network(block: Callable[[], nn.Module]) -> nn.Module:
    """Return the block between two convolutions; its norms have seen values."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        block(),
        nn.Conv2d(8, 8, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 9),
    )
    with torch.no_grad():
        model.train()(images(64))
    return model.eval()


IN_PLACE = partial(F.hardswish, inplace=True)
BLOCKS: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "mobilenet v3": (lambda: Squeezed(F.hardswish, F.hardsigmoid), {}),
    "in place": (lambda: Squeezed(IN_PLACE, partial(F.hardsigmoid, inplace=True)), {}),
    "efficientnet": (lambda: Squeezed(F.silu, torch.sigmoid), {}),
    "modules": (lambda: Squeezed(nn.SiLU(inplace=True), nn.Hardsigmoid()), {}),
    "linear gates": (LinearSqueezed, {}),
    "fpn": (lambda: Scales("nearest", beside=False), {}),
    "unet nearest": (lambda: Scales("nearest", beside=True), {}),
    "moved channels": (Moved, {}),
    # without integer kernel in the runtime
    "unet bilinear": (lambda: Scales("bilinear", beside=True), {"Resize": 1}),
    "pre-activation": (PreActivated, {"BatchNormalization": 1}),  # the other follows a convolution and is folded
    "densenet": (Dense, {"BatchNormalization": 2}),
    "transformer": (
        Transformer,
        {"Add": 2, "FusedMatMul": 1, "Gelu": 1, "LayerNormalization": 2, "MatMul": 1, "Softmax": 1},
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_what_runs_in_floats_is_named(name: str) -> None:
    make, named = BLOCKS[name]
    inputs, model = images(64), network(make)
    with torch.no_grad():
        expected = model(inputs).numpy()
    exported = checked_bytes(quantized(model, inputs, 8), task_of(inputs))
    assert dict(floats_between(exported)) == named
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    found = session.run(None, {"input": inputs.numpy()})[0]
    assert np.abs(found - expected).max() < 0.06 * np.abs(expected).max()


def test_a_float_model_has_none_and_the_words_begin_with_the_most_frequent() -> None:
    model = network(PreActivated)
    assert not floats_between(checked_bytes(model, task_of(images(8))))
    assert words_of({"Gelu": 1, "Add": 1, "Softmax": 2}) == "2 Softmax, 1 Add, 1 Gelu"


def test_a_gate_is_exact_at_its_ends_and_within_a_step_between_them() -> None:
    values = torch.linspace(-8, 8, 4001, requires_grad=True)
    gate = HardGate()(values)
    right = F.hardsigmoid(values)
    assert float((gate - right).detach().abs().max()) < 1.01 / 255
    assert (gate[values <= -3.02] == 0).all()
    assert (gate[values >= 3.02] == 1).all()
    gate.sum().backward()
    slope = values.grad
    assert slope is not None
    torch.testing.assert_close(slope, torch.autograd.grad(right.sum(), values)[0])


def test_a_gated_block_is_the_same_after_it_was_kept_and_trains() -> None:
    inputs = images(64)
    model = quantized(network(BLOCKS["mobilenet v3"][0]), inputs, 8)
    written = snapshot(model, network(BLOCKS["mobilenet v3"][0]))
    assert written is not None
    again = restored(written, network(BLOCKS["mobilenet v3"][0])).eval()
    assert torch.equal(again(inputs), model(inputs))
    model.train()(inputs).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
