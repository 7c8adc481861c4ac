"""Layers of unknown kinds stay in floats and are reported by name, with how much of the model they are."""

import logging

import pytest
import torch
from quantized_models import bench_of, images, quantized
from torch import Tensor, nn

from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.quantization.layer_facts import layer_facts
from paretta.search_spaces.errors import WrongInput


class Transposed(nn.Module):
    """A linear layer of another library's kind, [in, out]."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(width, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, values: Tensor) -> Tensor:
        return values @ self.weight + self.bias


def test_a_model_of_unknown_layers_alone_is_refused() -> None:
    with pytest.raises(
        WrongInput, match=r"no layer of the model can be quantised.*1: Transposed layers have no integer"
    ):
        quantized(nn.Sequential(nn.Flatten(), Transposed(144, 10)), images(32), 8)


def test_unknown_layers_among_others_are_named_and_their_share_is_said(caplog: pytest.LogCaptureFixture) -> None:
    inputs = images(32)
    model = nn.Sequential(nn.Flatten(), Transposed(144, 12), nn.ReLU(), nn.Linear(12, 10))
    with caplog.at_level(logging.WARNING, logger="paretta"):
        model = quantized(model, inputs, 8)
    assert "1 stays in float: Transposed layers have no integer form here" in caplog.text
    assert "quantize reaches 6.4 % of the model's numbers" in caplog.text  # 120 of 1,870
    reasons = {name: facts.in_floats for name, facts in layer_facts(model, inputs[:1]).items()}
    assert reasons["1"] is not None
    assert reasons["3"] is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_a_model_of_other_floats_is_refused_before_anything_is_computed(dtype: torch.dtype) -> None:
    inputs = images(32).to(dtype)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 10)).to(dtype)
    with pytest.raises(WrongInput, match=rf"parameters of float32.*1\.weight of {dtype}.*\.float\(\)"):
        check_task(bench_of(model, inputs).task)
