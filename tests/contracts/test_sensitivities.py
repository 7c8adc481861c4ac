"""What every sensitivity must hold to, tested on whatever is registered."""

import pytest
import torch
from quantized_models import bench_of, chain, images

from paretta.pipelines.quantizers.symmetric import Symmetric
from paretta.pipelines.sensitivities import WIDTHS, Sensitivity, Subject
from paretta.search_spaces.registry import SENSITIVITIES

NAMES = SENSITIVITIES.names()
LAYERS = ("0", "4", "9")


def costs_of(name: str) -> torch.Tensor:
    found = SENSITIVITIES.load(name)
    assert isinstance(found, type)
    assert issubclass(found, Sensitivity)
    model, inputs = chain().eval(), images(16)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    subject = Subject(model, LAYERS, lambda weight, bits: Symmetric(bits=bits).fit(weight).nearest(weight))
    costs = found().costs(subject, bench_of(model, inputs))
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)), "the model is left alone"
    assert all(parameter.grad is None for parameter in model.parameters())
    return costs.detach()


@pytest.mark.parametrize("name", NAMES)
class TestSensitivity:
    def test_one_finite_non_negative_cost_per_layer_and_width(self, name: str) -> None:
        costs = costs_of(name)
        assert costs.shape == (len(LAYERS), len(WIDTHS))
        assert bool(torch.isfinite(costs).all())
        assert bool((costs >= 0).all())

    def test_few_bits_cost_more_than_many(self, name: str) -> None:
        costs = costs_of(name).sum(0)
        assert costs[0] > costs[2] > costs[6] > 0

    def test_a_seed_repeats_it(self, name: str) -> None:
        assert torch.equal(costs_of(name), costs_of(name))

    def test_its_file_says_what_it_is(self, name: str) -> None:
        assert len(SENSITIVITIES.describe(name)) > 10
