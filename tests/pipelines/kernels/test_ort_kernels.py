"""Shares of integer work are of all work: recurrent layers and transposed convolutions count as they run."""

from pathlib import Path

import pytest
import torch
from quantized_models import images, quantized
from torch import Tensor, nn

from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.kernels.ort_kernels import KernelCounts, integer_kernels


def counted(model: nn.Module, inputs: Tensor, folder: Path) -> KernelCounts:
    (folder / "model.onnx").write_bytes(to_bytes(model, inputs[:1]))
    return integer_kernels(folder / "model.onnx")


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.recurrent, self.head = layer, nn.Linear(width, 4)

    def forward(self, steps: Tensor) -> Tensor:
        answer: Tensor = self.head(self.recurrent(steps)[0][:, -1])
        return answer


RECURRENT = {
    "gru": (lambda: nn.GRU(12, 16, batch_first=True), 3, 1),
    "lstm": (lambda: nn.LSTM(12, 16, batch_first=True), 4, 1),
    "both directions": (lambda: nn.LSTM(12, 16, batch_first=True, bidirectional=True), 4, 2),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_count(name: str, tmp_path: Path) -> None:
    """Each of 12 steps multiplies 12 inputs and 16 states with every gate of every direction."""
    make, gates, directions = RECURRENT[name]
    torch.manual_seed(0)
    inputs = images(32).squeeze(1)
    kernels = counted(quantized(Recurrent(make(), 16 * directions), inputs, 8), inputs, tmp_path)
    weights, head = directions * gates * 16 * (12 + 16), directions * 16 * 4
    assert (kernels.weights, kernels.macs) == (weights + head, 12 * weights + head)
    assert (kernels.integer_weights, kernels.integer_macs) == (head, head)
    assert kernels.details()["integer_macs_share"] == head / (12 * weights + head)


def test_transposed_convolutions_count(tmp_path: Path) -> None:
    """3x3 weights of 4 by 2 channels, each used at every one of the 12 x 12 places of the input."""
    torch.manual_seed(0)
    inputs = images(32)
    model = quantized(nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 2, 3, stride=2)), inputs, 8)
    kernels = counted(model, inputs, tmp_path)
    assert (kernels.integer_macs, kernels.macs - kernels.integer_macs) == (144 * 4, 144 * 4 * 2 * 9)
    assert (kernels.integer_weights, kernels.weights - kernels.integer_weights) == (4, 4 * 2 * 9)
