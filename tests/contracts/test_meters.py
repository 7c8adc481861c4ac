"""What every meter must hold to, tested on whatever is registered."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from pipelines.export import to_onnx
from pipelines.meter import METERS, Meter, MeterBench, answers, meter_of
from pipelines.tasks.digits import make
from search_spaces.objectives import Goal, Reading

TASK = make(width=4, hidden=8)
# a metric is a meter by its own name; the others are named as their files
NAMES = [*TASK.metrics, *(name for name in METERS.names() if name != "metric")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("artifact")
    (made / "model.onnx").write_bytes(to_onnx(TASK.new_model(), TASK.example_input).SerializeToString())
    return made


def read(name: str, folder: Path) -> Reading:
    inputs, targets = (tensor.numpy() for tensor in TASK.validation.tensors)
    bench = MeterBench(folder, inputs, answers(folder, inputs), targets, TASK.metrics)
    return meter_of(name, TASK.metrics).read(folder, bench)


@pytest.mark.parametrize("name", NAMES)
class TestMeter:
    def test_the_value_is_positive_and_in_its_interval(self, name: str, folder: Path) -> None:
        reading = read(name, folder)
        assert reading.value is not None
        assert reading.value > 0
        assert reading.num_samples >= 1
        if reading.low is not None and reading.high is not None:
            assert reading.low <= reading.value <= reading.high

    def test_it_repeats_within_its_own_spread(self, name: str, folder: Path) -> None:
        first, again = read(name, folder), read(name, folder)
        assert first.value is not None
        assert again.value is not None
        if first.low is None or first.high is None or again.low is None or again.high is None:
            assert first.value == again.value
            return
        # the interval tells of one process and one loading of the file; another may differ by as much again
        widths = (first.high - first.low) + (again.high - again.low)
        assert abs(first.value - again.value) <= 2 * widths + 0.05 * first.value

    def test_unit_and_goal_are_facts(self, name: str, folder: Path) -> None:
        meter = meter_of(name, TASK.metrics)
        assert meter.goal in get_args(Goal)
        assert read(name, folder).unit == meter.unit
        assert meter.label == name

    def test_its_document_survives_a_round_trip(self, name: str, folder: Path) -> None:
        meter = meter_of(name, TASK.metrics)
        assert isinstance(meter, Meter)
        assert meter_of(meter.model_dump(mode="json"), TASK.metrics) == meter

    def test_more_inputs_than_samples_are_no_problem(self, name: str, folder: Path) -> None:
        bench = MeterBench(folder, np.zeros((1, 1, 8, 8), np.float32))
        document = {**meter_of(name, TASK.metrics).model_dump(), **({"batch_size": 4} if name == "latency" else {})}
        reading = meter_of(document, TASK.metrics).read(folder, bench)
        assert reading.value is not None or reading.reason
