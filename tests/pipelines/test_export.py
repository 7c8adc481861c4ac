"""The exported model computes what an independent integer model computes, bit for bit, in integer kernels."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from integer_simulator import simulate
from quantized_models import Beside, bench_of, chain, images, quantized, residual
from torch import nn
from torch.nn.utils import parametrize

from pipelines.export import to_bytes, to_onnx
from pipelines.kernels import integer_kernels
from pipelines.stages.quantize import Quantize

WIDTHS = range(2, 9)


def outputs_of(model: bytes, inputs: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": inputs.numpy()})[0]


def kernels_of(model: bytes, folder: Path):
    (folder / "model.onnx").write_bytes(model)
    return integer_kernels(folder / "model.onnx")


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_chain_equals_the_integer_simulator_bit_for_bit(bits: int, tmp_path: Path) -> None:
    inputs = images(1200)
    model = quantized(chain(), inputs, bits)
    exported = to_bytes(model, inputs[:1])
    expected = simulate(model, inputs)
    assert len(np.unique(expected)) > 300
    np.testing.assert_array_equal(outputs_of(exported, inputs), expected)
    kernels = kernels_of(exported, tmp_path)
    assert (kernels.kernels["QLinearConv"], kernels.kernels["QGemm"]) == (4, 2)
    assert kernels.details()["integer_macs_share"] == kernels.details()["integer_weights_share"] == 1.0
    assert "DequantizeLinear" not in kernels.kernels


@pytest.mark.parametrize("bits", WIDTHS)
def test_every_output_of_single_layers_is_exact(bits: int) -> None:
    torch.manual_seed(bits)
    inputs = images(1000, channels=4, size=6)
    branches = [
        nn.Sequential(nn.Conv2d(4, 6, 3, padding=1)),
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=4)),
        nn.Sequential(nn.Flatten(), nn.Linear(144, 20)),
    ]
    model = quantized(Beside(branches), inputs, bits)
    expected = np.concatenate([simulate(branch, inputs).reshape(1000, -1) for branch in branches], axis=1)
    assert expected.shape == (1000, 6 * 36 + 4 * 16 + 20)
    np.testing.assert_array_equal(outputs_of(to_bytes(model, inputs[:1]), inputs), expected)


def test_any_batch_size_gives_the_same_rows() -> None:
    inputs = images(64)
    exported = to_bytes(quantized(chain(), inputs, 4), inputs[:1])
    together = outputs_of(exported, inputs)
    for size in (1, 7):
        np.testing.assert_array_equal(outputs_of(exported, inputs[:size]), together[:size])


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Hardswish()], ids=["relu", "relu6", "hardswish"])
def test_skips_pools_and_other_activations_keep_layers_in_integers(activation: nn.Module, tmp_path: Path) -> None:
    inputs = images(256)
    model = residual(activation)
    reference = deepcopy(model).eval()(inputs).detach().numpy()
    exported = to_bytes(quantized(model, inputs, 8), inputs[:1])
    details = kernels_of(exported, tmp_path).details()
    assert (details["qlinear_conv"], details["qgemm"], details["integer_macs_share"]) == (4, 1, 1.0)
    assert np.abs(outputs_of(exported, inputs) - reference).max() < 0.1 * np.abs(reference).max()


def test_the_share_of_integer_work_is_counted(tmp_path: Path) -> None:
    inputs = images(64)
    exported = to_bytes(quantized(chain(), inputs, {"0": 8, "11": 8}), inputs[:1])
    kernels = kernels_of(exported, tmp_path)
    macs = [12 * 12 * 8 * 9, 6 * 6 * 8 * 9, 6 * 6 * 12 * 4 * 9, 3 * 3 * 16 * 12, 144 * 32, 32 * 10]
    assert kernels.macs == sum(macs)
    assert kernels.integer_macs == macs[0] + macs[-1]
    assert kernels.weights == 72 + 72 + 432 + 192 + 4608 + 320
    assert kernels.integer_weights == 72 + 320


def test_a_float_model_is_exported_with_folded_batch_norms(tmp_path: Path) -> None:
    inputs = images(64)
    model = residual()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exported = to_onnx(model, inputs[:1])
    assert "BatchNormalization" not in {node.op_type for node in exported.graph.node}
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    expected = model.eval()(inputs).detach().numpy()
    np.testing.assert_allclose(outputs_of(exported.SerializeToString(), inputs), expected, rtol=1e-4, atol=1e-5)
    assert kernels_of(exported.SerializeToString(), tmp_path).integer_layers == 0


def test_a_batch_norm_that_does_not_follow_a_layer_stays() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2))
    inputs = images(32)
    model(inputs)
    exported = to_onnx(model, inputs[:1])
    assert [node.op_type for node in exported.graph.node].count("BatchNormalization") == 2
    np.testing.assert_allclose(
        outputs_of(exported.SerializeToString(), inputs), model.eval()(inputs).detach().numpy(), rtol=1e-4, atol=1e-5
    )


def test_equal_models_give_equal_bytes() -> None:
    inputs = images(64)
    first = to_bytes(quantized(chain(), inputs, 3), inputs[:1])
    to_bytes(residual(), inputs[:1])
    assert to_bytes(quantized(chain(), inputs, 3), inputs[:1]) == first
    assert to_bytes(quantized(chain(), inputs, 4), inputs[:1]) != first


def test_files_shrink_with_the_bits_and_carry_no_remarks() -> None:
    torch.manual_seed(2)
    inputs = images(64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 256), nn.ReLU(), nn.Linear(256, 10))
    weights = 144 * 256 + 256 * 10
    exports = {bits: to_onnx(quantized(deepcopy(model), inputs, bits), inputs[:1]) for bits in WIDTHS}
    sizes = [exports[bits].ByteSize() for bits in WIDTHS]
    assert sizes == sorted(sizes)
    overhead = sizes[-1] - weights
    assert overhead < 4 * 2 * 266 + 1500  # steps and biases, then a graph of two layers
    for bits, size in zip(WIDTHS, sizes, strict=True):
        assert size <= weights * bits / 8 + overhead + 600
    assert sizes[0] < weights * 1.61 / 8 + overhead + 600
    for export in exports.values():
        graph = export.graph
        assert not graph.value_info
        assert not export.metadata_props
        assert not export.producer_name
        assert not any(node.name or node.doc_string or node.metadata_props for node in graph.node)
        assert all(len(item.name) <= 2 for item in graph.initializer)
        onnx.checker.check_model(export, full_check=True)


def test_masked_weights_are_zero_in_the_artifact() -> None:
    class Mask(nn.Module):
        def __init__(self, mask: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("mask", mask)

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight * self.mask

    torch.manual_seed(0)
    inputs = images(1000)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 10))
    model(inputs)
    mask = (torch.rand(4, 1, 3, 3) > 0.5).float()
    parametrize.register_parametrization(model[0], "weight", Mask(mask))
    float_outputs = deepcopy(model).eval()(inputs).detach()
    model = quantized(model, inputs, 8)
    assert isinstance(model[1], nn.Identity)
    assert torch.equal(model[0].weight == 0, (mask == 0) | (model[0].weight == 0))
    assert (model(inputs) - float_outputs).abs().max() < 0.1
    chain_of = nn.Sequential(model[0], *list(model)[2:])
    np.testing.assert_array_equal(outputs_of(to_bytes(model, inputs[:1]), inputs), simulate(chain_of, inputs))


def test_a_linear_layer_on_sequences_runs_as_one_integer_product(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 16, bias=False), nn.GELU(), nn.Linear(16, 4))
    inputs = images(64).squeeze(1)
    model = quantized(model, inputs, 8)
    exported = to_bytes(model, inputs[:1])
    assert kernels_of(exported, tmp_path).kernels["QGemm"] == 2
    expected = model(inputs).detach().numpy()
    assert np.abs(outputs_of(exported, inputs) - expected).max() < 0.02 * np.abs(expected).max()


def test_an_artifact_agrees_with_the_trained_model_up_to_rounding() -> None:
    inputs = images(500)
    model = Quantize(bits=5).apply(chain(), bench_of(chain(), inputs)).eval()
    expected = model(inputs).detach().numpy()
    difference = np.abs(outputs_of(to_bytes(model, inputs[:1]), inputs) - expected)
    assert difference.max() < 0.05 * np.abs(expected).max()
