"""Contract tests that every meter must pass, on an artifact with a tiny network for the digits."""

import json
from functools import cache
from pathlib import Path
from typing import Final, get_args

import numpy as np
import pytest

from paretta.pipelines.bench import seeded
from paretta.pipelines.export.to_onnx import to_onnx
from paretta.pipelines.measuring.artifact_answers import first_feeds, judged
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.meter import Meter, MeterBench, meter_of
from paretta.pipelines.stage import Shape
from paretta.pipelines.task import Task
from paretta.pipelines.tasks.digits import make as digits
from paretta.search_spaces.objectives.objective import Goal
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.user_code import reference_to

FACTS: Final = {"train_cpu_s": 12.5}


class MeterContract:
    """Override the fixture `meter`; also `share` if readings of one artifact may differ by more than 5 %."""

    share = 0.05

    @pytest.fixture
    def meter(self) -> Meter:
        """Return the meter under test."""
        raise NotImplementedError("override the fixture `meter`")

    @pytest.fixture
    def artifact(self, tmp_path: Path) -> Path:
        """Return a folder with the model that is measured."""
        (tmp_path / "model.onnx").write_bytes(_model_bytes())
        return tmp_path

    @pytest.fixture
    def first(self, meter: Meter, artifact: Path) -> Reading:
        """Return one reading."""
        return self.read(meter, artifact)

    def read(self, meter: Meter, artifact: Path) -> Reading:
        """Return a reading of the artifact; override it for a meter of other inputs than images."""
        return read(meter, artifact)

    def test_the_value_is_positive_and_in_its_interval(self, first: Reading) -> None:
        assert first.value is not None
        assert first.value > 0
        assert first.num_samples >= 1
        if first.low is not None and first.high is not None:
            assert first.low <= first.value <= first.high

    def test_it_repeats_within_its_own_spread(self, meter: Meter, artifact: Path, first: Reading) -> None:
        again = self.read(meter, artifact)
        assert first.value is not None
        assert again.value is not None
        if first.low is None or first.high is None or again.low is None or again.high is None:
            assert first.value == again.value
            return
        widths = (first.high - first.low) + (again.high - again.low)
        assert abs(first.value - again.value) <= 2 * widths + self.share * max(first.value, again.value)

    def test_unit_and_goal_are_facts(self, meter: Meter, first: Reading) -> None:
        assert meter.goal in get_args(Goal)
        assert first.unit == meter.unit
        assert (meter.changed_by or frozenset()) <= {*get_args(Shape)}

    def test_it_survives_the_journal(self, first: Reading) -> None:
        text = json.dumps(first.to_document(), allow_nan=False)
        assert Reading.from_document(json.loads(text)) == first

    def test_its_document_survives_a_round_trip(self, meter: Meter) -> None:
        document = {**meter.model_dump(mode="json"), "kind": reference_to(type(meter))}
        assert meter_of(document, measured_task().metrics) == meter

    def test_more_inputs_than_samples_are_no_problem(self, meter: Meter, artifact: Path) -> None:
        bench = MeterBench(artifact, {"input": np.zeros((1, 1, 8, 8), np.float32)})
        served = meter.model_copy(update={"batch_size": 4}) if isinstance(meter, ServedMeter) else meter
        reading = served.read(artifact, bench)
        assert reading.value is not None or reading.reason


def measured_task() -> Task:
    """Return the digits with a tiny network."""
    return digits(width=4, hidden=8)


@cache
def _model_bytes() -> bytes:
    task = measured_task()
    with seeded(0):
        model = task.new_model()
    serialized: bytes = to_onnx(model, task.example_input).SerializeToString()
    return serialized


def read(meter: Meter, artifact: Path) -> Reading:
    """Return a reading on the validation split, with the artifact as its own baseline."""
    task = measured_task()
    feeds = first_feeds(artifact, task, "validation")
    return meter.read(
        artifact, MeterBench(artifact, feeds, judged(artifact, task, "validation", [*task.metrics]), FACTS)
    )
