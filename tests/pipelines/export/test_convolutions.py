"""Convolutions of every rank, and those that pad first, compute in integers, bit for bit as the integer simulator."""

from collections import Counter
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from integer_simulator import simulate
from quantized_models import quantized, task_of
from torch import Tensor, nn

from paretta.pipelines.export.agreement import checked_bytes
from paretta.pipelines.export.to_onnx import exported
from paretta.pipelines.kernels.layer_kernels import facts_that_ran, optimised_graph
from paretta.pipelines.model.padded_convolution import framed
from paretta.pipelines.post_training.gather import answers, patches
from paretta.pipelines.quantization.fake_quantize import is_quantized
from paretta.pipelines.quantization.layer_facts import layer_facts


class Same(nn.Conv2d):
    """Pads as TensorFlow's SAME does, which depends on the size of the image; its stride is a list."""

    def __init__(self, *sizes: int, **settings: Any) -> None:
        super().__init__(*sizes, **settings)
        self.stride = [*self.stride]  # type: ignore[assignment]

    def frame(self, values: Tensor) -> list[int]:
        sides = []
        for size, kernel, stride, step in zip(
            reversed(values.shape[2:]),
            reversed(self.kernel_size),
            reversed(self.stride),
            reversed(self.dilation),
            strict=True,
        ):
            total = max((-(-size // stride) - 1) * stride + step * (kernel - 1) + 1 - size, 0)
            sides += [total // 2, total - total // 2]
        return sides

    def forward(self, values: Tensor) -> Tensor:
        padded = F.pad(values, self.frame(values))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, groups=self.groups)


class Ahead(nn.Conv1d):
    """Looks at what came before, by a module of its own that pads on one side."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.before = nn.ConstantPad1d((2, 0), 0.0)

    def frame(self, _: Tensor) -> tuple[int, int]:
        return (2, 0)

    def forward(self, values: Tensor) -> Tensor:
        return F.conv1d(self.before(values), self.weight, self.bias, self.stride, self.padding)


class Doubled(nn.Conv1d):
    """Does more than it may."""

    def forward(self, values: Tensor) -> Tensor:
        return F.conv1d(F.pad(values, (1, 1)), self.weight, self.bias) * 2


class Masked(nn.Conv1d):
    """Takes more than the values."""

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        return F.conv1d(values * mask, self.weight, self.bias)


def line() -> nn.Sequential:
    convolutions = nn.Conv1d(4, 8, 5, padding=2), nn.Conv1d(8, 8, 3, padding="same", groups=4, bias=False)
    last = nn.Conv1d(8, 6, 3, stride=2, dilation=2)
    return nn.Sequential(
        convolutions[0], nn.ReLU(), nn.MaxPool1d(2), convolutions[1], nn.ReLU(), last, nn.Flatten(), nn.Linear(24, 5)
    )


def space() -> nn.Sequential:
    convolutions = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 2)
    return nn.Sequential(convolutions[0], nn.ReLU(), nn.MaxPool3d(2), convolutions[1], nn.Flatten(), nn.Linear(32, 5))


def same() -> nn.Sequential:
    layers = Same(3, 8, 3, 2), Same(8, 8, 5, 2, groups=8, bias=False)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(72, 5))


def causal() -> nn.Sequential:
    return nn.Sequential(Ahead(4, 8, 3), nn.ReLU(), Ahead(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5))


CHAINS = {
    "of lines": (line, (4, 24), 3),
    "of volumes": (space, (1, 6, 6, 6), 2),
    "padded as by TensorFlow": (same, (3, 9, 10), 3),
    "padded by a module": (causal, (4, 12), 2),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("bits", [4, 8])
def test_a_chain_equals_the_integer_simulator_bit_for_bit(name: str, bits: int) -> None:
    make, shape, convolutions = CHAINS[name]
    torch.manual_seed(1)
    inputs = torch.randn(200, *shape)
    model = cast(nn.Sequential, quantized(make(), inputs, bits))
    content = checked_bytes(model, task_of(inputs))
    assert "DequantizeLinear" not in (kinds := Counter(node.op_type for node in optimised_graph(content).node))
    assert (kinds["QLinearConv"], kinds["QGemm"], kinds["Pad"]) == (convolutions, 1, 0)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"input": inputs.numpy()})[0], simulate(model, inputs))


@pytest.mark.parametrize("name", CHAINS)
def test_weights_alone_in_few_bits_compute_in_floats(name: str) -> None:
    make, shape, _ = CHAINS[name]
    torch.manual_seed(1)
    inputs = torch.randn(40, *shape)
    model = quantized(make(), inputs, 4, activation_bits=32)
    delivered = exported(model, inputs[:1])
    facts = facts_that_ran(delivered, layer_facts(model, inputs[:1]))
    assert {layer.bits for layer in facts.values()} == {4}
    session = onnxruntime.InferenceSession(delivered.content, providers=["CPUExecutionProvider"])
    found = session.run(None, {"input": inputs.numpy()})[0]
    np.testing.assert_allclose(found, model(inputs).detach().numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("transposed", [nn.ConvTranspose1d(4, 6, 4, 2), nn.ConvTranspose3d(4, 6, 2, 2)])
def test_transposed_convolutions_of_every_rank_hold_integers(transposed: nn.Module) -> None:
    torch.manual_seed(1)
    rank = transposed.weight.dim() - 2
    before, after = (nn.Conv1d, nn.Conv1d) if rank == 1 else (nn.Conv3d, nn.Conv3d)
    inputs = torch.randn(40, 2, *[6] * rank)
    model = quantized(nn.Sequential(before(2, 4, 3), nn.ReLU(), transposed, nn.ReLU(), after(6, 3, 1)), inputs, 8)
    checked_bytes(model, task_of(inputs))
    delivered = exported(model, inputs[:1])
    facts = facts_that_ran(delivered, layer_facts(model, inputs[:1]))
    assert [layer.kernel for layer in facts.values()] == ["QLinearConv", "ConvTranspose", "QLinearConv"]
    assert facts["2"].stored == 8
    assert facts["2"].in_floats == "ONNX Runtime has no integer kernel for it"


def test_a_layer_that_does_more_than_pad_stays_in_floats() -> None:
    inputs = torch.randn(40, 4, 12)
    model = quantized(nn.Sequential(Doubled(4, 4, 3), nn.Conv1d(4, 2, 1)), inputs, 8)
    assert [is_quantized(layer) for layer in model] == [False, True]
    assert framed(model[0], inputs) is None
    assert framed(Masked(4, 4, 3), inputs) is None


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2),
        nn.Conv1d(4, 6, 5, padding="same"),
        nn.Conv3d(4, 6, (2, 3, 1), padding=(0, 1, 2), groups=2),
        Same(4, 6, 3, 2, groups=2),
    ],
)
def test_patches_times_weights_are_the_outputs(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
    values = torch.randn(3, 4, *[7] * (layer.weight.dim() - 2))
    rows = patches(layer, values)
    weight = layer.weight.detach().reshape(layer.groups, 6 // layer.groups, -1)
    found = torch.einsum("gpi,goi->pgo", rows, weight).flatten(1) + layer.bias.detach()
    torch.testing.assert_close(found, answers(layer, layer(values)).detach(), rtol=1e-4, atol=1e-5)
