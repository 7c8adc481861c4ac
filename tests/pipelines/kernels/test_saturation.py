"""Weights multiplied in integers keep to what the kernels of every x86 processor multiply exactly."""

from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from quantized_models import bench_of
from torch import Tensor, nn

from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.kernels.saturation import SAFE_BITS, num_overflowing, saturates, warning_of
from paretta.pipelines.quantization.fake_quantize import weight_codes
from paretta.pipelines.quantization.layer_facts import layer_facts
from paretta.pipelines.stages.quantize import Quantize

ONE_STEP = 1 / 255 + 1e-3  # of an 8-bit result, relative to the largest

LAYERS: dict[str, Callable[[], nn.Sequential]] = {
    "pointwise": lambda: nn.Sequential(nn.Conv2d(32, 32, 1)),
    "grouped": lambda: nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, groups=8)),
    "multiplied": lambda: nn.Sequential(nn.Conv2d(32, 64, 3, padding=1, groups=32)),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(32 * 64, 10)),
}
DEPTHWISE: dict[str, Callable[[], nn.Sequential]] = {
    "3x3": lambda: nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, groups=32)),
    "7x7": lambda: nn.Sequential(nn.Conv2d(32, 32, 7, padding=3, groups=32)),
}


def heavy(make: Callable[[], nn.Sequential]) -> nn.Sequential:
    """Return a layer of positive weights near the largest, so that sums of neighbours are as large as can be."""
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.abs_().add_(0.1)
    return model


def quantized(make: Callable[[], nn.Sequential], weights: str, *, reduce_range: bool | None) -> nn.Sequential:
    stage = Quantize(
        bits=4 if weights == "codebook" else 8,
        weights=weights,
        reduce_range=reduce_range,
        activation_range="minmax",
        calibration_samples=8,
    )
    model = stage.apply(heavy(make), bench_of(heavy(make), images())).eval()
    assert isinstance(model, nn.Sequential)
    return model


def images() -> Tensor:
    return torch.rand(8, 32, 8, 8, generator=torch.Generator().manual_seed(1)) + 0.5


def error_of(model: nn.Module) -> float:
    """Return the largest difference of ONNX Runtime's answers, relative to the largest answer."""
    session = onnxruntime.InferenceSession(to_bytes(model, images()[:1]), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = model(images())
    found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images().numpy()})[0])
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    ("name", "weights"),
    [*((name, "symmetric") for name in LAYERS), ("pointwise", "affine"), ("pointwise", "codebook")],
)
def test_a_reduced_range_answers_alike_on_every_processor(name: str, weights: str) -> None:
    assert error_of(quantized(LAYERS[name], weights, reduce_range=True)) < ONE_STEP


def test_by_default_the_range_is_what_this_processor_computes_exactly() -> None:
    assert error_of(quantized(LAYERS["pointwise"], "symmetric", reduce_range=None)) < ONE_STEP
    full = quantized(LAYERS["pointwise"], "symmetric", reduce_range=False)
    assert (error_of(full) < ONE_STEP) == (not saturates())


@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise_convolutions_need_no_reduced_range(name: str) -> None:
    model = quantized(DEPTHWISE[name], "symmetric", reduce_range=True)
    assert int(weight_codes(model[0]).abs().max()) == 127
    assert error_of(model) < ONE_STEP


@pytest.mark.parametrize(
    ("make", "reduce_range", "count"),
    [
        (LAYERS["linear"], False, 1),
        (LAYERS["pointwise"], False, 1),
        (LAYERS["pointwise"], True, 0),
        (DEPTHWISE["3x3"], False, 0),
    ],
)
def test_a_file_with_codes_of_8_bits_is_told_where_kernels_overflow(
    tmp_path: Path, make: Callable[[], nn.Sequential], reduce_range: bool, count: int
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(to_bytes(quantized(make, "symmetric", reduce_range=reduce_range), images()[:1]))
    assert num_overflowing(path) == count
    said = warning_of(path)
    assert (said is not None) == (count > 0 and saturates())
    assert said is None or "make the model with {kind: quantize, reduce_range: true}" in said


def test_what_was_asked_for_stays_told() -> None:
    model = quantized(LAYERS["linear"], "symmetric", reduce_range=True)
    facts = layer_facts(model, images()[:1])["1"]
    assert (facts.asked, facts.bits) == (8, SAFE_BITS)
    assert int(weight_codes(model.get_submodule("1")).abs().max()) <= 63


def test_weights_that_are_computed_in_floats_keep_their_range() -> None:
    stage = Quantize(bits=8, compute="float", reduce_range=True)
    model = stage.apply(heavy(LAYERS["linear"]), bench_of(heavy(LAYERS["linear"]), images()))
    assert int(weight_codes(model.get_submodule("1")).abs().max()) == 127
