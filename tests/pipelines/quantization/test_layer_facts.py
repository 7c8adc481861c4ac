import torch
from quantized_models import images, quantized
from torch import nn

from paretta.pipelines.quantization.layer_facts import layer_facts


class Mixed(nn.Module):
    """A convolution, a layer without an integer form, a parameter of no layer, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.gate = nn.Bilinear(2, 2, 3)
        self.table = nn.Parameter(torch.ones(3, 3))
        self.head = nn.Linear(3, 4)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        rows = self.conv(values).mean((2, 3))
        return self.head(self.gate(rows, rows) @ self.table)  # type: ignore[no-any-return]


def test_bits_and_zeros_are_those_that_the_model_computes_with() -> None:
    inputs, model = images(32)[:, :1], Mixed()
    with torch.no_grad():
        model.conv.weight[0] = 0
    model = quantized(model, inputs, {"head": 3})
    facts = layer_facts(model, inputs[:1])
    assert (facts["conv"].shape, facts["conv"].bits, facts["conv"].sparsity) == ((2, 1, 3, 3), 32, 0.5)
    assert (facts["head"].shape, facts["head"].bits) == ((4, 3), 3)
    assert facts["head"].sparsity == round(float((model.head.weight == 0).double().mean()), 4)


def test_what_stays_in_floats_is_named_with_its_reason() -> None:
    inputs = images(32)[:, :1]
    reasons = {name: facts.in_floats for name, facts in layer_facts(quantized(Mixed(), inputs, 8), inputs[:1]).items()}
    assert reasons == {
        "conv": None,
        "gate": "Bilinear layers have no integer form here; Conv1d, Conv2d, Conv3d, Linear, Embedding do",
        "table": "a parameter of Mixed itself and no layer's",
        "head": None,
    }
