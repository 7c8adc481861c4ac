"""What is told of a layer is what ONNX Runtime runs of the delivered file, not what the layer is marked as."""

import onnxruntime
import pytest
import torch
from quantized_models import images, quantized
from torch import Tensor, nn

from paretta.pipelines.export.to_onnx import exported
from paretta.pipelines.kernels.layer_kernels import Ran, facts_that_ran, layers_that_ran
from paretta.pipelines.quantization.layer_facts import LayerFacts, layer_facts


class Mixed(nn.Module):
    """A layer of each kind that runs in its own way; the transposed one stands between two that are quantised."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up, self.next = nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 2, 3, stride=2), nn.Conv2d(2, 4, 1)
        self.steps, self.head = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 3)
        self.table = nn.Parameter(torch.randn(3, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        planes = torch.relu(self.next(torch.relu(self.up(torch.relu(self.conv(inputs))))))
        answer: Tensor = self.head(self.steps(planes.flatten(2).transpose(1, 2))[0][:, -1]) @ self.table
        return answer


def as_run(model: nn.Module, inputs: Tensor) -> dict[str, LayerFacts]:
    return facts_that_ran(exported(model, inputs[:1]), layer_facts(model, inputs[:1]))


@pytest.mark.parametrize(
    ("bits", "activation_bits", "kernels"),
    [
        (8, 8, {"conv": "QLinearConv", "next": "QLinearConv", "head": "QGemm"}),
        (8, 32, {"conv": "FusedConv", "next": "FusedConv", "head": "Gemm"}),
    ],
)
def test_each_layer_is_told_with_its_kernel(bits: int, activation_bits: int, kernels: dict[str, str]) -> None:
    torch.manual_seed(0)
    inputs = images(32)
    facts = as_run(quantized(Mixed(), inputs, bits, activation_bits=activation_bits), inputs)
    others = {"up": "ConvTranspose", "steps.weight_ih_l0": "GRU", "steps.weight_hh_l0": "GRU", "table": "MatMul"}
    assert {name: layer.kernel for name, layer in facts.items()} == kernels | others
    assert {name: facts[name].asked for name in kernels} == dict.fromkeys(kernels, bits)
    assert facts["head"].stored == 8
    assert facts["table"].stored == 32
    assert {name for name, layer in facts.items() if layer.in_floats is None} == (
        set(kernels) if activation_bits == 8 else set()
    )


def test_a_transposed_convolution_between_integer_layers_stays_in_floats() -> None:
    torch.manual_seed(0)
    inputs = images(32, size=8)
    others = {"conv": 8, "next": 8, "head": 8}
    facts = as_run(quantized(Mixed(), inputs, others), inputs)["up"]
    assert (facts.bits, facts.stored, facts.kernel) == (
        32,
        32,
        "ConvTranspose",
    )  # ONNX Runtime would round it to 8 bits
    assert facts.in_floats == "its weight is not quantized"


def test_a_transposed_convolution_that_the_runtime_rounds_by_itself_is_not_told_as_32_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("paretta.pipelines.export.graph_passes._keep_floats", lambda model: None)
    torch.manual_seed(0)
    inputs = images(32, size=8)
    others = {"conv": 8, "next": 8, "head": 8}
    facts = as_run(quantized(Mixed(), inputs, others), inputs)["up"]
    assert facts.bits == 8
    assert facts.in_floats is not None
    assert facts.in_floats.endswith("ONNX Runtime rounds it to 8 bits by itself")
    assert as_run(Mixed().eval(), inputs)["up"].bits == 32


@pytest.mark.parametrize(("bits", "activation_bits"), [(8, 8), (4, 8), (4, 32)])
def test_a_transposed_convolution_computes_with_the_integers_that_it_was_trained_with(
    bits: int, activation_bits: int
) -> None:
    torch.manual_seed(0)
    inputs = images(32)
    up = nn.ConvTranspose2d(4, 12, 3, stride=2, output_padding=1, groups=2)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), up, nn.ReLU(), nn.Conv2d(12, 4, 1), nn.Flatten())
    model = quantized(model, inputs, bits, activation_bits=activation_bits)
    delivered = exported(model, inputs[:1])
    facts = facts_that_ran(delivered, layer_facts(model, inputs[:1]))["2"]
    assert (facts.bits, facts.asked, facts.kernel) == (bits, bits, "ConvTranspose")
    assert facts.stored == bits
    assert facts.in_floats == "ONNX Runtime has no integer kernel for it"
    session = onnxruntime.InferenceSession(delivered.content, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {"input": inputs.numpy()})[0])
    off = (found - model(inputs).detach()).abs()
    # steps of the last layer that fall the other way: 1.8 % at 4 bits, and every eighth where weights are rounded twice
    assert float((off > 1e-4).float().mean()) < 0.04


def test_rows_that_are_looked_up_are_no_floats_and_a_marked_layer_that_runs_in_floats_is() -> None:
    facts = LayerFacts((4, 3), 8, 0.0, None)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 3)).eval()
    (ran,) = layers_that_ran(exported(model, images(1)), {"1": facts}).values()
    assert ran == Ran(("Gemm",), 32, 32.0)
    (told,) = facts_that_ran(exported(model, images(1)), {"1": facts}).values()
    assert told.in_floats == "ONNX Runtime runs it as Gemm, in floats"
    table = quantized(Rows(), torch.arange(40).view(20, 2) % 9, 4)
    assert as_run(table, torch.arange(2).view(1, 2))["rows"].in_floats is None


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.Embedding(9, 8), nn.Linear(8, 10)

    def forward(self, places: Tensor) -> Tensor:
        answer: Tensor = self.head(self.rows(places).mean(1))
        return answer
