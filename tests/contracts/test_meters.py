"""Every registered meter, and a task's metric, passes the contract tests."""

from pathlib import Path

import pytest
from small_decoder import decoder_feeds, small_decoder

from paretta.pipelines.meter import Meter, MeterBench, meter_of
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.registry import METERS
from paretta.testing import MeterContract
from paretta.testing.meters import measured_task, read

METRICS = measured_task().metrics
# a metric is a meter by its own name; the others are named as their files
DECODER = ("time_to_first_token", "tokens_per_second")  # of models that generate text
NAMES = [*METRICS, *(name for name in METERS.names() if name not in ("metric", *DECODER))]
# what a meter cannot know by itself
SETTINGS = {"energy": {"watts_per_core": 5.0}, "train_energy": {"watts_per_core": 5.0}}
# these are of the machine as it is at the time: its caches and its clock are shared with whatever else runs
ABSOLUTE_TIMES = ("throughput", "load_time", "energy")
taken: dict[str, Reading] = {}


class TestDecoderMeter(MeterContract):
    share = 0.6

    @pytest.fixture(params=DECODER)
    def meter(self, request: pytest.FixtureRequest) -> Meter:
        return meter_of({"kind": request.param, "budget_seconds": 0.5}, {})

    @pytest.fixture
    def artifact(self, tmp_path: Path) -> Path:
        (tmp_path / "model.onnx").write_bytes(small_decoder().SerializeToString())
        return tmp_path

    def read(self, meter: Meter, artifact: Path) -> Reading:
        return meter.read(artifact, MeterBench(artifact, decoder_feeds()))


class TestMeter(MeterContract):
    @pytest.fixture(params=NAMES)
    def meter(self, request: pytest.FixtureRequest) -> Meter:
        self.share = 0.6 if request.param in ABSOLUTE_TIMES else 0.05
        return meter_of({"kind": request.param, **SETTINGS.get(request.param, {})}, METRICS)

    @pytest.fixture
    def first(self, meter: Meter, artifact: Path) -> Reading:
        """One reading of each meter, taken once."""
        if meter.label not in taken:
            taken[meter.label] = read(meter, artifact)
        return taken[meter.label]

    @pytest.mark.parametrize("name", NAMES)
    def test_its_label_is_its_name(self, name: str) -> None:
        assert meter_of({"kind": name, **SETTINGS.get(name, {})}, METRICS).label == name
