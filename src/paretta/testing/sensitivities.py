"""Contract tests that every sensitivity must pass, on a chain of convolutions and linear layers."""

from typing import Final, cast

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.data.samples import Samples
from paretta.pipelines.quantizers.symmetric import Symmetric
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.sensitivities import WIDTHS, Sensitivity, Subject
from paretta.pipelines.task import Metric, Task

ROUNDED: Final = ("0", "4", "9")


class SensitivityContract:
    """Override the fixture `sensitivity`."""

    @pytest.fixture
    def sensitivity(self) -> Sensitivity:
        """Return the sensitivity under test."""
        raise NotImplementedError("override the fixture `sensitivity`")

    def test_one_finite_non_negative_cost_per_layer_and_width(self, sensitivity: Sensitivity) -> None:
        costs = costs_of(sensitivity)
        assert costs.shape == (len(ROUNDED), len(WIDTHS))
        assert bool(torch.isfinite(costs).all())
        assert bool((costs >= 0).all())

    def test_few_bits_cost_more_than_many(self, sensitivity: Sensitivity) -> None:
        costs = costs_of(sensitivity).sum(0)
        assert costs[0] > costs[2] > costs[6] > 0

    def test_a_seed_repeats_it(self, sensitivity: Sensitivity) -> None:
        assert torch.equal(costs_of(sensitivity), costs_of(sensitivity))


def costs_of(sensitivity: Sensitivity) -> torch.Tensor:
    """Return the costs [layers, widths] on a seeded model, which must stay unchanged."""
    with seeded(11):
        model = _chain().eval()
    inputs = torch.randn(16, 1, 12, 12, generator=torch.Generator().manual_seed(7))
    data = cast(Samples, TensorDataset(inputs, torch.arange(16) % 10))
    metrics = {"accuracy": Metric(lambda outputs, targets: (outputs.argmax(1) == targets).float())}
    task = Task(model, data, data, data, nn.functional.cross_entropy, metrics, inputs[:1])
    before = [parameter.detach().clone() for parameter in model.parameters()]
    subject = Subject(model, ROUNDED, lambda _, weight, bits: Symmetric(bits=bits).fit(weight).nearest(weight))
    costs = sensitivity.costs(subject, Bench(task, Ranks.alone(), seed=3))
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)), (
        "the model must stay unchanged"
    )
    assert all(parameter.grad is None for parameter in model.parameters())
    return costs.detach()


def _chain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=2, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 1),
        nn.Flatten(),
        nn.Linear(144, 10),
    )
