"""Between two quantised layers nothing is computed in floats, but for what the runtime has no integer kernel for."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from quantized_models import images, quantized, task_of
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from paretta.pipelines.export.agreement import checked_bytes
from paretta.pipelines.export.to_onnx import to_onnx
from paretta.pipelines.quantization.fake_quantize import weight_codes, weight_quantizer
from paretta.pipelines.reuse.model_snapshot import restored, snapshot

CONVERSIONS = {"QuantizeLinear", "DequantizeLinear"}
SHAPING = {"Reshape", "Transpose", "MaxPool"}


def optimised(model: bytes, folder: Path) -> onnx.GraphProto:
    """What ONNX Runtime makes of the model, without its memory layout for this machine."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx").graph


class ResidualNet(nn.Module):
    """An identity shortcut, one with a convolution, and a last sum before the pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.first = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        self.second = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
        self.shortcut = nn.Conv2d(8, 16, 1, 2)
        self.head = nn.Linear(16, 10)

    def forward(self, values: Tensor) -> Tensor:
        values = F.relu(self.stem(values))
        values = F.relu(self.first(values) + values)
        wide = self.second(values)
        wide += self.shortcut(values)
        answer: Tensor = self.head(F.adaptive_avg_pool2d(F.relu(wide), 1).flatten(1))
        return answer


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.layers = nn.ModuleList([nn.Conv2d(8 + 4 * place, 4, 3, padding=1) for place in range(2)])
        self.head = nn.Linear(16, 10)

    def forward(self, values: Tensor) -> Tensor:
        values = torch.relu(self.stem(values))
        for layer in self.layers:
            values = torch.cat([values, layer(values).relu()], dim=1)
        answer: Tensor = self.head(values.mean((2, 3)))
        return answer


class Bottleneck(nn.Module):
    """Expand, filter each channel, project, and add: without an activation at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.project = nn.Conv2d(8, 24, 1), nn.Conv2d(24, 8, 1)
        self.filter = nn.Conv2d(24, 24, 3, padding=1, groups=24)

    def forward(self, values: Tensor) -> Tensor:
        return values + self.project(F.relu6(self.filter(F.relu6(self.expand(values)))))


def inverted() -> nn.Module:
    ends = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU6(), Bottleneck(), Bottleneck(), *ends)


class UNet(nn.Module):
    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        self.down, self.bottom = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.up, self.join, self.head = up, nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, values: Tensor) -> Tensor:
        skipped = torch.relu(self.down(values))
        deep = torch.relu(self.bottom(F.max_pool2d(skipped, 2)))
        answer: Tensor = self.head(torch.relu(self.join(torch.cat([self.up(deep), skipped], 1))))
        return answer


class Perceptron(nn.Module):
    """Linear layers whose results a sum reads after an activation, and a norm that cannot be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(144, 16), nn.Linear(16, 16), nn.Linear(16, 10)

    def forward(self, values: Tensor) -> Tensor:
        values = torch.relu(self.stem(values.flatten(1)))
        answer: Tensor = self.head(torch.relu(self.layer(values)) + values)
        return answer


BLOCKS = {
    "residual": (ResidualNet, {"QLinearConv": 6, "QLinearAdd": 2, "QLinearGlobalAveragePool": 1, "QGemm": 1}, {}),
    "dense": (Dense, {"QLinearConv": 3, "QLinearConcat": 2, "QLinearGlobalAveragePool": 1, "QGemm": 1}, {}),
    "inverted": (inverted, {"QLinearConv": 7, "QLinearAdd": 2, "QLinearGlobalAveragePool": 1, "QGemm": 1}, {}),
    "unet": (
        lambda: UNet(nn.ConvTranspose2d(8, 8, 2, 2)),
        {"QLinearConv": 4, "QLinearConcat": 1},
        {"ConvTranspose": 1},
    ),
    "perceptron": (Perceptron, {"QGemm": 3, "QLinearAdd": 1}, {}),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_only_named_operators_compute_in_floats(name: str, tmp_path: Path) -> None:
    make, integer, floating = BLOCKS[name]
    torch.manual_seed(2)
    inputs = images(64)
    reference = make().eval()
    expected = reference(inputs).detach()
    model = quantized(reference, inputs, 8)
    exported = checked_bytes(model, task_of(inputs))
    counts = Counter(node.op_type for node in optimised(exported, tmp_path).node)
    conversions = sum(counts.pop(kind, 0) for kind in CONVERSIONS)
    # at the input, at the output, around what is in floats, and of its weights, which the runtime may round by itself
    assert conversions <= 2 + 4 * sum(floating.values())
    assert {kind: count for kind, count in counts.items() if kind not in SHAPING} == {**integer, **floating}
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    found = session.run(None, {"input": inputs.numpy()})[0]
    assert np.abs(found - expected.numpy()).max() < 0.1 * float(expected.abs().max())


def test_a_linear_layer_that_floats_read_after_an_activation_runs_in_integers(tmp_path: Path) -> None:
    torch.manual_seed(2)
    inputs = images(64)
    layers = [nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 10)]
    model = nn.Sequential(*layers)
    model(inputs)
    exported = checked_bytes(quantized(model, inputs, 8), task_of(inputs))
    counts = Counter(node.op_type for node in optimised(exported, tmp_path).node)
    assert (counts["QGemm"], counts["FusedGemm"], counts["Gemm"], counts["BatchNormalization"]) == (2, 0, 0, 1)


def test_training_sees_the_rounding_of_a_sum() -> None:
    """What the block adds up stands on one grid of 256 values in the model that is trained, and gradients pass."""
    torch.manual_seed(2)
    inputs = images(64)
    model = quantized(ResidualNet(), inputs, 8).train()
    seen: list[Tensor] = []
    model.second[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    model(inputs).square().sum().backward()
    assert len(seen[0].unique()) <= 256
    step = model.joint_quantizers["add_0"].scale
    torch.testing.assert_close(seen[0] / step, (seen[0] / step).round(), rtol=0, atol=1e-3)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_quantised_block_is_the_same_after_it_was_kept_and_fetched() -> None:
    torch.manual_seed(2)
    inputs = images(64)
    fresh = ResidualNet()
    model = quantized(ResidualNet(), inputs, 8)
    written = snapshot(model, fresh)
    assert written is not None
    again = restored(written, ResidualNet()).eval()
    assert torch.equal(again(inputs), model(inputs))
    with pytest.raises(RuntimeError):
        again(inputs[:, :, :0])
    assert not _get_current_function_mode_stack(), "a pass that fails leaves nothing behind"


@pytest.mark.parametrize("gain", [1e-2, 1e-5, 1e-8, 0.0])
def test_a_large_bias_beside_tiny_weights_is_exact_enough(gain: float) -> None:
    """A channel with tiny weights: its bias, in units of their scale, would exceed 32 bits."""
    torch.manual_seed(5)
    inputs = images(64) * 0.1
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))
    with torch.no_grad():
        model[1].weight[2], model[1].bias[2] = gain, 4.0
        model(inputs)
    expected = model.eval()(inputs).detach()
    exported = checked_bytes(quantized(model, inputs, 8), task_of(inputs))
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    found = session.run(None, {"input": inputs.numpy()})[0]
    assert np.abs(found - expected.numpy()).max() < 0.02 * float(expected.abs().max())


def test_steps_follow_a_bias_that_training_moves() -> None:
    inputs = images(64)
    model = quantized(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(400, 3)), inputs, 4)
    with torch.no_grad():
        model[0].parametrizations.weight.original.mul_(1e-9)
        model[0].parametrizations.weight[0].scale.mul_(1e-9)
        model[0].bias.fill_(3.0)
    model(inputs)
    quantizer = weight_quantizer(model[0])
    assert quantizer is not None
    steps = 3.0 / (quantizer.steps().detach() * model[0].input_quantizer.scale).double()
    assert float(steps.max()) < 2**30
    assert not weight_codes(model[0]).any(), "weights that small are nothing beside the bias"
    checked_bytes(model, task_of(inputs))


def test_rows_are_looked_up_by_32_bit_places() -> None:
    torch.manual_seed(0)
    places = torch.randint(0, 20, (64, 5), dtype=torch.int32)
    model = quantized(nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(40, 3)), places, 8)
    exported = checked_bytes(model, task_of(places))
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == "tensor(int32)"


class Called(nn.Module):
    """One layer that is called three times between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(144, 24), nn.Linear(24, 24), nn.Linear(24, 5)

    def forward(self, images: Tensor) -> Tensor:
        values = self.first(images.flatten(1)).relu()
        for _ in range(3):
            values = self.again(values).relu()
        return self.last(values)


def test_a_layer_that_is_called_several_times_is_exported_once() -> None:
    inputs = images(64)
    model = quantized(Called(), inputs, 4)
    content = to_onnx(model, inputs[:1])
    codes = [item for item in content.graph.initializer if item.data_type == onnx.TensorProto.INT4]
    assert [tuple(item.dims) for item in codes] == [(24, 144), (24, 24), (5, 24)]
    session = onnxruntime.InferenceSession(content.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": inputs.numpy()})
    expected = model(inputs).detach().numpy()
    assert abs(found - expected).max() < 2 / 255 * abs(expected).max()
