"""An export whose outputs differ from its model's fails with the layer's name; one that agrees is delivered."""

from copy import deepcopy

import onnx
import pytest
import torch
from onnx import numpy_helper
from quantized_models import chain, images, quantized, residual, task_of
from torch import nn
from tree_tasks import text_task

from paretta.pipelines.bench import Bench
from paretta.pipelines.export import stored_layers
from paretta.pipelines.export.agreement import checked_bytes, require_same_answers
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.quantization.fake_quantize import detach_activation_quantizers
from paretta.pipelines.quantization.joint_quantizers import detach_joint_quantizers
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stages.quantize import Quantize
from paretta.search_spaces.errors import TrialFailed


def test_what_agrees_is_returned_as_exported() -> None:
    inputs = images(64)
    for model in (quantized(chain(), inputs, 4), quantized(residual(), inputs, 8, activation_bits=32)):
        assert checked_bytes(model, task_of(inputs)) == to_bytes(model, inputs[:1])


def test_a_file_of_another_model_is_refused() -> None:
    inputs = images(8)
    exported = onnx.load_from_string(to_bytes(chain(), inputs[:1]))
    largest = max(exported.graph.initializer, key=lambda item: len(item.raw_data))
    largest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(largest) * 1.01, largest.name))
    with pytest.raises(TrialFailed, match=r"does not answer as the trained one: its answers differ by 0\.0"):
        require_same_answers(exported.SerializeToString(), chain(), task_of(inputs))


@pytest.mark.parametrize("damaged", [8, 10])
def test_the_first_layer_that_differs_is_named(damaged: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in how one layer is stored; layers before norms and with quantised outputs are among those looked at."""
    torch.manual_seed(1)
    inputs = images(64)
    layers = list(chain())
    model = nn.Sequential(layers[0], nn.BatchNorm2d(8), *layers[1:])
    model(inputs)
    model = quantized(model, inputs, 8)
    stored = stored_layers._bias_codes

    def wrong(layer: nn.Conv2d | nn.Linear, scale: torch.Tensor) -> torch.Tensor | None:
        codes = stored(layer, scale)
        size = layer.weight.shape
        return codes if size != model[damaged].weight.shape or codes is None else codes + 2_000_000

    monkeypatch.setattr(stored_layers, "_bias_codes", wrong)
    with pytest.raises(TrialFailed, match=f"the first layer that differs is '{damaged}'"):
        checked_bytes(model, task_of(inputs))


def test_a_layer_that_differs_is_named_where_another_axis_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    task = text_task()
    model = Quantize(bits=8, calibration_samples=16).apply(task.new_model().eval(), Bench(task, Ranks.alone()))
    monkeypatch.setattr(stored_layers, "_bias_codes", lambda layer, _scale: torch.full_like(layer.bias, 2e6).int())
    with pytest.raises(TrialFailed, match="the first layer that differs is 'mix'"):
        checked_bytes(model, task)


@pytest.mark.parametrize(("fault", "is_refused"), [(0.0, False), (0.5, True)])
def test_answers_that_differ_as_by_rounding_alone_are_taken(
    fault: float, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paretta.pipelines.export.agreement.INTEGER_TOLERANCE", 0.0)
    torch.manual_seed(1)
    inputs = images(64)
    rounding = quantized(chain(), inputs, 8)
    other = deepcopy(rounding)  # in floats where the model rounds
    for layer in other.modules():
        detach_activation_quantizers(layer)
    detach_joint_quantizers(other)
    with torch.no_grad():
        *_, last = (layer for layer in other.modules() if isinstance(layer, nn.Linear))
        last.bias += fault * other(inputs).abs().max()
    content = to_bytes(other, inputs[:1])
    if not is_refused:
        require_same_answers(content, rounding, task_of(inputs))
        return
    with pytest.raises(TrialFailed, match="does not answer as the trained one: its answers differ by 0\\."):
        require_same_answers(content, rounding, task_of(inputs))


def test_a_float_layer_before_a_folded_norm_is_named_by_the_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = residual(), images(64)

    monkeypatch.setattr("paretta.pipelines.quantization.layer_graph._fold", lambda _layer, _norm: True)
    monkeypatch.setattr("paretta.pipelines.quantization.layer_graph._rest_of", lambda *_: nn.Identity())
    with pytest.raises(TrialFailed, match="the first layer that differs is 'norm0'"):
        checked_bytes(model, task_of(inputs))


def test_a_graph_that_the_runtime_refuses_is_a_failure() -> None:
    with pytest.raises(TrialFailed, match="ONNX Runtime refuses the exported model: "):
        require_same_answers(b"not a model", chain(), task_of(images(8)))


class Reading(nn.Module):
    """Reads of its layers beside calling them: a tied weight, a type to convert to, a width, a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.hidden, self.head = nn.Embedding(20, 8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        values = self.tokens(tokens).to(self.hidden.weight.dtype)
        values = self.hidden(values).relu().view(-1, tokens.shape[1], self.hidden.out_features)
        values = self.head(values) + self.hidden.weight.T.mean(1, keepdim=True).T.mean() + self.hidden.bias.sum()
        return nn.functional.linear(values, self.tokens.weight).mean(1)


@pytest.mark.parametrize(("bits", "activation_bits"), [(8, 8), (4, 32)])
def test_what_a_model_reads_of_a_quantised_layer_is_there_in_its_file(bits: int, activation_bits: int) -> None:
    torch.manual_seed(1)
    tokens = torch.randint(0, 20, (32, 5))
    model = quantized(Reading(), tokens, bits, activation_bits=activation_bits)
    checked_bytes(model, task_of(tokens))
