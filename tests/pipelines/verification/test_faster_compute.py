"""Whether a model computes in integers follows from its time and the time's interval; one time is really taken."""

import pytest
import torch
from quantized_models import accuracy, images
from torch import nn
from torch.utils.data import TensorDataset

from paretta.pipelines.meter import meter_of
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.verification.faster_compute import FasterCompute, faster_compute
from paretta.search_spaces.objectives.reading import Reading


@pytest.mark.parametrize(
    ("value", "low", "high", "setting"),
    [(0.7, 0.68, 0.72, "integer"), (1.02, 0.99, 1.05, "integer"), (1.13, 1.1, 1.16, "float")],
)
def test_a_model_leaves_the_integers_if_they_are_surely_slower(
    value: float, low: float, high: float, setting: str
) -> None:
    found = FasterCompute(Reading(value, "ratio", low=low, high=high))
    assert found.setting == setting
    assert found.words() == f"{setting}: in integers the model takes {value:.2f} of its time in floats"


def test_both_forms_of_the_untrained_model_are_timed() -> None:
    data = TensorDataset(images(16), torch.arange(16) % 10)
    metrics = {"accuracy": Metric(accuracy)}
    task = Task(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 10)),
        data,
        data,
        data,
        nn.CrossEntropyLoss(),
        metrics,
        images(1),
    )
    found = faster_compute(task, meter_of("latency", {"budget_seconds": 0.1})).integers
    assert found.low is not None
    assert found.value is not None
    assert 0 < found.low <= found.value
    assert found.details["integer_macs_share"] == 1.0
