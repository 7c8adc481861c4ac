"""What every meter must hold to, tested on whatever is registered."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from paretta.pipelines.export.to_onnx import to_onnx
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.meter import Meter, MeterBench, answers, meter_of
from paretta.pipelines.tasks.digits import make
from paretta.search_spaces.objectives.objective import Goal
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.registry import METERS

TASK = make(width=4, hidden=8)
# a metric is a meter by its own name; the others are named as their files
NAMES = [*TASK.metrics, *(name for name in METERS.names() if name != "metric")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("artifact")
    (made / "model.onnx").write_bytes(to_onnx(TASK.new_model(), TASK.example_input).SerializeToString())
    return made


# what a meter cannot know by itself
SETTINGS: dict[str, dict[str, float]] = {"energy": {"watts_per_core": 5.0}, "train_energy": {"watts_per_core": 5.0}}
FACTS = {"train_cpu_s": 12.5}
# these are of the machine as it is at the time: its caches and its clock are shared with whatever else runs
ABSOLUTE_TIMES = ("throughput", "load_time", "energy")


def meter(name: str, **settings: float) -> Meter:
    return meter_of({"kind": name, **SETTINGS.get(name, {}), **settings}, TASK.metrics)


def read(name: str, folder: Path) -> Reading:
    inputs, targets = (tensor.numpy() for tensor in TASK.validation.tensors)
    bench = MeterBench(folder, inputs, answers(folder, inputs), targets, TASK.metrics, FACTS)
    return meter(name).read(folder, bench)


@pytest.fixture(scope="module")
def first(folder: Path) -> Callable[[str], Reading]:
    """One reading of each meter, taken once."""
    return cache(lambda name: read(name, folder))


@pytest.mark.parametrize("name", NAMES)
class TestMeter:
    def test_the_value_is_positive_and_in_its_interval(self, name: str, first: Callable[[str], Reading]) -> None:
        reading = first(name)
        assert reading.value is not None
        assert reading.value > 0
        assert reading.num_samples >= 1
        if reading.low is not None and reading.high is not None:
            assert reading.low <= reading.value <= reading.high

    def test_it_repeats_within_its_own_spread(self, name: str, folder: Path, first: Callable[[str], Reading]) -> None:
        once, again = first(name), read(name, folder)
        assert once.value is not None
        assert again.value is not None
        if once.low is None or once.high is None or again.low is None or again.high is None:
            assert once.value == again.value
            return
        widths = (once.high - once.low) + (again.high - again.low)
        share = 0.6 if name in ABSOLUTE_TIMES else 0.05
        assert abs(once.value - again.value) <= 2 * widths + share * max(once.value, again.value)

    def test_unit_and_goal_are_facts(self, name: str, first: Callable[[str], Reading]) -> None:
        assert meter(name).goal in get_args(Goal)
        assert first(name).unit == meter(name).unit
        assert meter(name).label == name

    def test_it_survives_the_journal(self, name: str, first: Callable[[str], Reading]) -> None:
        text = json.dumps(first(name).to_document(), allow_nan=False)
        assert Reading.from_document(json.loads(text)) == first(name)

    def test_its_document_survives_a_round_trip(self, name: str) -> None:
        assert isinstance(meter(name), Meter)
        assert meter_of(meter(name).model_dump(mode="json"), TASK.metrics) == meter(name)

    def test_more_inputs_than_samples_are_no_problem(self, name: str, folder: Path) -> None:
        bench = MeterBench(folder, np.zeros((1, 1, 8, 8), np.float32))
        served = isinstance(meter(name), ServedMeter)
        reading = meter(name, **({"batch_size": 4} if served else {})).read(folder, bench)
        assert reading.value is not None or reading.reason
