import torch
from torch import nn

from pipelines.fake_quantize import attach_weight_quantizer
from pipelines.layers import layer_facts
from pipelines.quantizers.symmetric import Symmetric


def test_bits_and_zeros_are_those_that_the_model_computes_with() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4))
    with torch.no_grad():
        model[0].weight[0] = 0
    attach_weight_quantizer(model[2], Symmetric(bits=3))
    facts = layer_facts(model)
    assert (facts["0"].shape, facts["0"].bits, facts["0"].sparsity) == ((2, 1, 3, 3), 32, 0.5)
    assert (facts["2"].shape, facts["2"].bits) == ((4, 8), 3)
    assert facts["2"].sparsity == round(float((model[2].weight == 0).double().mean()), 4)
