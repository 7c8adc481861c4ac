"""Multiply-accumulates are those that one counts by hand, and widths those that were delivered."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from quantized_models import chain, images, quantized
from torch import Tensor, nn

from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.kernels.mac_count import layer_work
from paretta.pipelines.kernels.ort_kernels import integer_kernels
from paretta.pipelines.meter import MeterBench
from paretta.pipelines.meters.bops import Bops
from paretta.pipelines.meters.macs import Macs


class Attention(nn.Module):
    """Two heads over six tokens of width eight."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)
        self.join = nn.Linear(8, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.project(tokens).view(-1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = (query @ key.transpose(2, 3)).softmax(-1) @ value
        return self.join(mixed.transpose(1, 2).reshape(-1, 6, 8))


# by hand, for one sample: outputs of the layer times the inputs of one output
PERCEPTRON_MACS = 30 * 20 + 5 * 30
CHAIN_MACS = (
    8 * 12 * 12 * (1 * 3 * 3),  # plain, 1 -> 8 channels, padded
    8 * 6 * 6 * (1 * 3 * 3),  # depthwise, stride 2
    12 * 6 * 6 * (4 * 3 * 3),  # two groups of 4 -> 6, dilated and padded
    16 * 3 * 3 * 12,  # pointwise, after pooling
    32 * 144,
    10 * 32,
)
ATTENTION_MACS = (
    6 * 24 * 8,  # queries, keys and values of six tokens
    2 * 6 * 6 * 4,  # each token's query with each token's key, in two heads of width 4
    2 * 6 * 4 * 6,  # each token's mean of six values
    6 * 8 * 8,
)


def written(folder: Path, model: nn.Module, example: Tensor) -> tuple[Path, MeterBench]:
    (folder / "model.onnx").write_bytes(to_bytes(model, example))
    return folder, MeterBench(None, {"input": example.numpy()})


def test_a_perceptron_by_hand(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    assert PERCEPTRON_MACS == 750
    assert Macs().read(*written(tmp_path, net, torch.randn(3, 20))).value == 750


def test_convolutions_by_hand(tmp_path: Path) -> None:
    folder, bench = written(tmp_path, chain(), images(2))
    assert CHAIN_MACS == (10368, 2592, 15552, 1728, 4608, 320)
    assert tuple(layer.macs for layer in layer_work(folder / "model.onnx", bench.inputs)) == CHAIN_MACS
    reading = Macs().read(folder, bench)
    assert (reading.value, reading.low, reading.details["integer_share"]) == (35168, None, 0.0)
    assert integer_kernels(folder / "model.onnx").macs == 35168, "what the optimised graph runs is no less"
    assert Bops().read(folder, bench).value == 35168 * 32 * 32


def test_attention_by_hand(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder, bench = written(tmp_path, Attention(), torch.randn(2, 6, 8))
    assert sum(ATTENTION_MACS) == 1152 + 288 + 288 + 384
    assert sorted(layer.macs for layer in layer_work(folder / "model.onnx", bench.inputs)) == sorted(ATTENTION_MACS)


@pytest.mark.usefixtures("full_range")
def test_every_packing_is_read_with_its_width_and_without_its_unpacking(tmp_path: Path) -> None:
    inputs = images(64)
    widths = {"0": 8, "2": 6, "4": 5, "7": 4, "9": 3, "11": 2}
    folder, bench = written(tmp_path, quantized(chain(), inputs, widths), inputs)
    macs, bops = Macs().read(folder, bench), Bops().read(folder, bench)
    assert (macs.value, macs.details["integer_share"]) == (sum(CHAIN_MACS), 1.0)
    assert bops.details["widths"] == "8x8 6x8 5x8 4x8 3x8 2x8"
    assert bops.value == 8 * sum(bits * macs for bits, macs in zip(widths.values(), CHAIN_MACS, strict=True))


@pytest.mark.parametrize(
    ("operator", "attributes", "told"),
    [
        ("Einsum", {"equation": "ij->ij"}, "the work of Einsum is not counted"),
        ("Identity", {"body": helper.make_graph([], "branch", [], [])}, "branches or loops"),
    ],
)
def test_what_cannot_be_counted_is_not_measured(
    operator: str, attributes: dict[str, object], told: str, tmp_path: Path
) -> None:
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy")
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    for meter in (Macs(), Bops()):
        reading = meter.read(tmp_path, MeterBench(None, {"input": np.zeros((1, 2), np.float32)}))
        assert reading.value is None
        assert told in str(reading.reason)
