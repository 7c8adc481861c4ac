"""A metric gets copies, returns one score per sample or one for all, and never turns invalid scores into numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines import artifact
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.measuring.measure import measure
from paretta.pipelines.meter import MeterBench, meter_of
from paretta.pipelines.meters.metric import Metric as MetricMeter
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.training.evaluate import scores
from paretta.search_spaces.errors import TrialFailed, WrongInput
from paretta.search_spaces.space.plan import Plan


def right(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float()


def spoiling(outputs: Tensor, targets: Tensor) -> Tensor:
    """Right, and leaves both arrays in pieces."""
    found = right(outputs, targets)
    outputs.zero_()
    targets.fill_(7)
    return found


def task_of(metrics: dict[str, Metric], inputs: Tensor | None = None) -> Task:
    given = torch.eye(3).repeat(6, 1) if inputs is None else inputs
    data = TensorDataset(given, torch.arange(len(given)) % 3)
    return Task(nn.Identity(), data, data, data, nn.functional.cross_entropy, metrics, given[:1])


def test_a_metric_that_changes_its_arrays_changes_no_other() -> None:
    task = task_of({"first": Metric(spoiling), "second": Metric(right), "third": Metric(spoiling)})
    assert scores(nn.Identity(), task, Ranks.alone()) == {"first": 1.0, "second": 1.0, "third": 1.0}
    outputs, targets = torch.eye(3), torch.arange(3)
    assert [float(metric.scores(outputs, targets).mean()) for metric in task.metrics.values()] == [1.0] * 3
    assert targets.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        (Metric(lambda o, t: torch.ones(8)), "must give 5 scores"),  # eight classes, not eight samples
        (Metric(lambda o, t: torch.ones(len(o), 1)), "must give 8 scores"),
        (Metric(lambda o, t: 100 * right(o, t)), "a share lies between 0 and 1.*0 to 100"),
        (Metric(lambda o, t: -right(o, t)), "a share lies between 0 and 1"),
        (Metric(lambda o, t: "good"), "must give 8 scores or one number; got 'str'"),
    ],
)
def test_scores_that_make_no_sense_are_refused_by_check(metric: Metric, told: str) -> None:
    with pytest.raises(WrongInput, match=told):
        check_task(task_of({"quality": metric}), trains=False)


def test_points_have_their_own_unit() -> None:
    check_task(task_of({"quality": Metric(lambda o, t: 100 * right(o, t), unit="points")}), trains=False)


def test_one_python_number_for_the_whole_split_is_a_score() -> None:
    check_task(task_of({"quality": Metric(lambda o, t: float(right(o, t).mean()))}), trains=False)


@pytest.mark.parametrize("name", ["size", "latency", "metric", "test_accuracy", "test_loss"])
def test_a_metric_called_like_a_meter_or_a_test_reading_is_refused(name: str) -> None:
    with pytest.raises(WrongInput, match="may not be called like a meter"):
        check_task(task_of({"accuracy": Metric(right), name: Metric(right)}))


@pytest.mark.parametrize("strange", [torch.nan, torch.inf])
def test_answers_that_are_no_numbers_are_told(strange: float) -> None:
    outputs = torch.eye(3)
    outputs[1, 2] = strange
    with pytest.raises(WrongInput, match="nan or inf for 1 of 3 samples"):
        Metric(right).scores(outputs, torch.arange(3))
    reason = "answers: must be numbers; got nan or inf for 1 of 3 samples"
    bench = MeterBench(None, {}, {"accuracy": reason})
    reading = MetricMeter(name="accuracy").read(Path(), bench)
    assert reading.value is None
    assert "nan or inf for 1 of 3 samples" in str(reading.reason)


def test_a_class_that_is_ruled_out_is_an_answer() -> None:
    outputs = torch.eye(3)
    outputs[:, 2] = -torch.inf
    assert Metric(right).scores(outputs, torch.arange(3)).tolist() == [1, 1, 0]


def test_an_input_that_is_no_number_fails_the_trial_wherever_it_lies(tmp_path: Path) -> None:
    """Of a split that check reads in part, the rest is looked at before it is measured on."""
    task = task_of({"accuracy": Metric(right)})
    content = to_bytes(nn.Linear(3, 3), task.example_input)
    artifact.write(tmp_path, content, plan=Plan(), seed=0, data_digest="")
    inputs = torch.eye(3).repeat(6, 1)
    inputs[13, 0] = torch.nan
    spoilt = replace(task, validation=TensorDataset(inputs, torch.arange(18) % 3))
    with pytest.raises(TrialFailed, match=r"^measure: task\.validation\[13\]: inputs must be finite; got 'nan or inf'"):
        measure(tmp_path, None, spoilt, split="validation", meters=[meter_of("accuracy", task.metrics)])
