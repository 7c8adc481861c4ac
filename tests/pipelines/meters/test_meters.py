"""Objectives become meters, and every reading is that of the delivered file."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from paretta.pipelines.artifact import write
from paretta.pipelines.export.to_onnx import to_onnx
from paretta.pipelines.losses.metric_scores import scores_by
from paretta.pipelines.measuring.measure import measure, measure_together
from paretta.pipelines.meter import MeterBench, meter_of
from paretta.pipelines.meters.latency import Latency
from paretta.pipelines.meters.metric import Metric as MetricMeter
from paretta.pipelines.meters.size import Size
from paretta.pipelines.meters.train_energy import TrainEnergy
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.tasks.digits import correct, make
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import TrialFailed, WrongInput
from paretta.search_spaces.registry import METERS
from paretta.search_spaces.space.plan import Plan


@pytest.fixture(scope="module")
def task() -> Task:
    return replace(
        make(width=4, hidden=8),
        metrics={
            "accuracy": Metric(correct),
            "spread": Metric(lambda y, t: y.std(1), goal="min", unit="1"),
            "whole": Metric(lambda y, t: (y.argmax(1) == t).float().mean(), unit="share"),
            "broken": Metric(lambda y, t: torch.full((len(y),), torch.nan)),
        },
    )


@pytest.fixture(scope="module")
def folders(task: Task, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small and a wide untrained network, exported."""
    made: list[Path] = []
    for width in (4, 32):
        torch.manual_seed(width)
        folder = tmp_path_factory.mktemp(f"width{width}")
        model = make(width=width, hidden=8).new_model()
        layers: Document = {"conv1": {"in_floats": "not quantized"}, "head": {"in_floats": None}}
        content = to_onnx(model, task.example_input).SerializeToString()
        write(folder, content, plan=Plan(()), seed=0, data_digest="", layers=layers)
        made.append(folder)
    return made[0], made[1]


def test_names_and_documents_become_meters(task: Task) -> None:
    assert meter_of("size", task.metrics) == Size()
    assert meter_of({"kind": "latency", "batch_size": 8}, task.metrics) == Latency(batch_size=8)
    spread = meter_of("spread", task.metrics)
    assert spread == meter_of({"kind": "metric", "name": "spread"}, task.metrics)
    assert (spread.label, spread.goal, spread.unit) == ("spread", "min", "1")


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ("accurcy", "did you mean 'accuracy'"),
        ("metric", "known: accuracy, bops, broken, coded_size, energy, latency, load_time, macs, peak_memory, size"),
        ({"kind": "latency", "goal": "max"}, "must be 'min'"),
        ({"kind": "latency", "batch": 2}, "did you mean 'batch_size'"),
        ({"kind": "paretta.pipelines.task:Task"}, "must name a subclass"),
    ],
)
def test_what_is_wrong_is_told(task: Task, objective: str | dict[str, object], told: str) -> None:
    with pytest.raises(WrongInput) as caught:
        meter_of(objective, task.metrics)
    assert told in str(caught.value)


def test_all_meters_are_read_from_the_files(task: Task, folders: tuple[Path, Path], tmp_path: Path) -> None:
    small, wide = folders
    meters = [meter_of(name, task.metrics) for name in ("accuracy", "size", "latency", "spread", "whole", "broken")]
    found = measure(small, wide, task, split="validation", meters=meters, scratch=tmp_path)
    assert list(found) == ["accuracy", "size", "latency", "spread", "whole", "broken"]
    assert found["size"].value == (small / "model.onnx").stat().st_size
    assert found["size"].details["times_smaller"] > 5
    # wide bounds: seven times the width does eight to sixty times the multiplications
    assert 0.01 < found["latency"].value < 0.95
    assert found["latency"].details["seconds"] < found["latency"].details["baseline_seconds"]
    assert found["latency"].details["float_layers"] == "conv1"
    assert found["accuracy"].value == pytest.approx(found["whole"].value)
    assert found["accuracy"].low < found["accuracy"].value < found["accuracy"].high
    whole = found["whole"]
    assert whole.num_samples == len(task.validation)
    assert whole.low is not None
    assert whole.high is not None
    assert whole.low < whole.value < whole.high, "a bootstrap over samples"
    assert found["broken"].value is None
    assert "nan for 256 samples" in str(found["broken"].reason)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_what_the_run_told_reaches_the_meters(task: Task, folders: tuple[Path, Path]) -> None:
    meters = [meter_of(name, task.metrics) for name in ("train_cost", "macs", "accuracy")]
    found = measure(folders[0], None, task, split="test", meters=meters, facts={"train_cpu_s": 12.5})
    assert found["train_cost"].value == 12.5
    # 8 x 8 pixels, 3 x 3 kernels, 1 -> 4 -> 8 channels; pooled to 2 x 2; 32 -> 8 -> 10
    assert found["macs"].value == 64 * 4 * 9 + 64 * 8 * 4 * 9 + 32 * 8 + 8 * 10
    assert found["macs"].details["float_layers"] == "conv1"
    untold = measure(folders[0], None, task, split="test", meters=meters[:1])
    assert untold["train_cost"].value is None


def test_a_metric_is_computed_on_what_the_artifact_answers(task: Task) -> None:
    taker = scores_by(task.metrics["accuracy"], task)
    taker.update(torch.eye(10), torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 0, 0]))
    bench = MeterBench(None, {}, {"accuracy": taker.scored()})
    reading = MetricMeter(name="accuracy").read(Path(), bench)
    assert (reading.value, reading.num_samples) == (0.8, 10)


def test_several_artifacts_are_timed_in_the_same_rounds(task: Task, folders: tuple[Path, Path]) -> None:
    small, wide = folders
    meter = Latency(budget_seconds=0.2)
    rows = measure_together([wide, small], wide, task, meters=[meter], facts={"baseline_seconds": 1e-9})
    itself, smaller = (row["latency"] for row in rows)
    assert itself.value is not None
    assert smaller.value is not None
    assert smaller.value < itself.value
    assert (itself.details["beside"], smaller.details["beside"]) == (1, 1)
    assert itself.details["baseline_seconds"] == pytest.approx(smaller.details["baseline_seconds"], rel=0.5)
    assert itself.details["contended"] is True, "a baseline that was known to be so much faster"
    assert measure_together([small], wide, task, meters=[meter], facts={})[0]["latency"].details["beside"] == 0


def test_without_a_baseline_latency_is_not_measured() -> None:
    reading = Latency().read(Path(), MeterBench(None, {}))
    assert reading.value is None
    assert "no baseline" in str(reading.reason)


def test_a_file_that_does_not_run_fails_the_trial(task: Task, folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(TrialFailed, match="does not run"):
        measure(tmp_path, folders[1], task, split="test", meters=[meter_of("accuracy", task.metrics)])


def test_the_measuring_process_stays_light() -> None:
    light = [name for name in METERS.names() if name != "metric"]
    modules = ", ".join(f"paretta.pipelines.meters.{name}" for name in light)
    code = f"import sys, paretta.pipelines.measuring.probe_process, {modules}"
    code += "; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("settings", "facts", "value", "source"),
    [
        ({}, {"train_rapl_j": 5.0, "train_cpu_s": 2.0}, 5.0, "rapl"),
        ({}, {"train_rapl_j": 5.0, "train_nvml_j": 7.0}, 7.0, "nvml"),
        ({"watts_per_core": 6.0}, {"train_cpu_s": 2.0}, 12.0, "cpu_seconds x W"),
        ({}, {"train_cpu_s": 2.0}, None, None),
        ({"watts_per_core": 6.0}, {}, None, None),
    ],
)
def test_the_energy_of_training_says_where_it_is_from(
    tmp_path: Path, settings: dict[str, float], facts: dict[str, float], value: float | None, source: str | None
) -> None:
    reading = TrainEnergy.model_validate(settings).read(tmp_path, cast(MeterBench, SimpleNamespace(facts=facts)))
    assert (reading.value, reading.details.get("source")) == (value, source)
