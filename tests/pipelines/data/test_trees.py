"""Models that take and give trees: every step of a plan works on them, and the delivered file has their names."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tree_tasks import Heard, Reader, sound_task, table_task, text_task

from paretta.pipelines.artifact import MODEL
from paretta.pipelines.data.trees import (
    ModelInputs,
    call_model,
    input_names,
    joined,
    leaves,
    mapped,
    output_names,
    tree_rows,
)
from paretta.pipelines.export.to_onnx import to_onnx
from paretta.pipelines.losses.metric_scores import scores_by
from paretta.pipelines.measuring.artifact_answers import artifact_answers
from paretta.pipelines.measuring.measure import measure
from paretta.pipelines.meter import meter_of
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.verification.verify import verify_claims
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan

TRAIN = {"kind": "train", "epochs": 6, "batch_size": 32, "lr": 0.01, "optimizer": "adam"}
SHORT = {**TRAIN, "epochs": 1}
TASKS: dict[str, Callable[[], Task]] = {
    "text": text_task,
    "text with its own loss": lambda: text_task(own_loss=True),
    "sound": sound_task,
    "table": table_task,
}
PLANS = {
    "trained": (),
    "prune": ({"kind": "prune", "sparsity": 0.25}, SHORT),
    "quantize": ({"kind": "quantize", "bits": 8},),
    "quantize by sensitivity": ({"kind": "quantize", "bits": {"average": 4, "sensitivity": "kl"}}, SHORT),
    "sparsify": ({"kind": "sparsify", "sparsity": 0.5, "importance": "gradient"}, SHORT),
    "cluster": ({"kind": "cluster", "values": 8},),
    "distill": ({"kind": "quantize", "bits": 4}, {**SHORT, "kind": "distill"}),
}


def test_names_follow_the_model_and_the_tree() -> None:
    one = torch.zeros(1, 2)
    assert input_names(Reader(), {"ids": one, "mask": one}) == ["ids", "mask"]
    assert input_names(Reader(), (one, one)) == ["ids", "mask"]
    assert input_names(Reader(), ModelInputs((one,), {"mask": {"deep": one}})) == ["ids", "mask.deep"]
    assert input_names(Reader(), one) == ["input"]
    assert output_names((one, {"a": one})) == ["output_0", "output_1.a"]
    assert output_names(Heard(one, one)) == ["scores", "confidence"]


def test_parts_are_joined_and_cut_by_rows() -> None:
    tree = {"a": torch.arange(6).reshape(3, 2), "b": (torch.arange(3), None)}
    again = joined([tree_rows(tree, slice(0, 1)), tree_rows(tree, slice(1, 3))])
    assert [place for place, _ in leaves(again)] == [("a",), ("b", "0")]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(leaves(tree), leaves(again), strict=True))
    assert mapped(lambda tensor: tensor * 2, Heard(torch.ones(1), torch.ones(1))).scores.tolist() == [2.0]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("plan", PLANS)
def test_every_stage_makes_a_file_that_answers_as_it_was_measured(name: str, plan: str, tmp_path: Path) -> None:
    task = TASKS[name]()
    stages = PLANS[plan]
    folder = tmp_path / "artifact"
    run(Plan((TRAIN,), stages), task, seed=0, ranks=Ranks.alone(), folder=folder)
    reading = measure(folder, None, task, split="validation", meters=[meter_of("accuracy", task.metrics)])["accuracy"]
    assert reading.value is not None
    assert reading.value > 0.55
    right = [task.metrics["accuracy"].score(*pair) for pair in artifact_answers(folder, task, "validation")]
    assert reading.value == pytest.approx(float(torch.cat(right).mean()))


def test_the_delivered_file_has_the_model_s_names_and_a_free_number_of_tokens(tmp_path: Path) -> None:
    task = text_task()
    run(Plan((SHORT,), ({"kind": "quantize", "bits": 8},)), task, seed=0, ranks=Ranks.alone(), folder=tmp_path / "a")
    session = onnxruntime.InferenceSession(tmp_path / "a" / MODEL)
    assert [(given.name, given.shape) for given in session.get_inputs()] == [
        ("ids", ["batch", "tokens"]),
        ("mask", ["batch", "tokens"]),
    ]
    assert [given.name for given in session.get_outputs()] == ["logits", "states"]
    ids = np.array([[1, 5, 7]], np.int64)
    (logits,) = session.run(["logits"], {"ids": ids, "mask": np.ones_like(ids)})
    (padded,) = session.run(
        ["logits"], {"ids": np.pad(ids, ((0, 0), (0, 5))), "mask": np.pad(ids * 0 + 1, ((0, 0), (0, 5)))}
    )
    np.testing.assert_allclose(logits, padded, atol=1e-5)


def test_claims_of_a_tree_task_are_confirmed_by_a_process_of_their_own(tmp_path: Path) -> None:
    from paretta.pipelines.artifact import record

    task = sound_task()
    run(Plan((TRAIN,), ()), task, seed=0, ranks=Ranks.alone(), folder=tmp_path / "a")
    found = measure(tmp_path / "a", None, task, split="validation", meters=[meter_of("accuracy", task.metrics)])
    record(tmp_path / "a", found)
    told = {finding.name: finding.outcome for finding in verify_claims(tmp_path / "a", task)}
    assert told == {"manifest": "confirmed", "accuracy": "confirmed"}


def test_free_axes_that_do_not_fit_are_told() -> None:
    model, inputs = Reader(), {"ids": torch.ones(1, 4, dtype=torch.long), "mask": torch.ones(1, 4, dtype=torch.long)}
    with pytest.raises(WrongInput, match="no input called 'words'; it has ids, mask"):
        to_onnx(model, inputs, {"words": {1: "tokens"}})
    with pytest.raises(WrongInput, match="ids has the axes 0 to 1"):
        to_onnx(model, inputs, {"ids": {2: "tokens"}})
    with pytest.raises(WrongInput, match="must be 2 or longer"):
        to_onnx(model, rows_of_one(inputs), {"ids": {1: "tokens"}})


def test_an_axis_that_the_model_fixes_is_told() -> None:
    with pytest.raises(WrongInput, match=r"task\.free_axes: the model fixes axis 1 of input at 4"):
        to_onnx(nn.Linear(4, 2), (torch.zeros(1, 4),), {"input": {1: "width"}})


def rows_of_one(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor[:, :1] for name, tensor in inputs.items()}


class Counted:
    """A metric with a state, as those of torchmetrics: the share of labels that are right, in whole."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.right, self.all = 0, 0

    def update(self, scores: Tensor, labels: Tensor) -> None:
        self.right += int((scores.argmax(1) == labels).sum())
        self.all += len(labels)

    def compute(self) -> float:
        return self.right / self.all


def test_a_metric_with_a_state_and_one_of_the_whole_split_have_bootstrap_intervals() -> None:
    task = text_task()
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(400, 2, generator=generator), torch.zeros(400, dtype=torch.long)
    share = float((scores.argmax(1) == 0).double().mean())
    spread = (share * (1 - share) / 400) ** 0.5  # of a mean of 400 independent answers
    for metric in (
        Metric(Counted()),
        Metric(lambda o, b: (o["logits"].argmax(1) == b["labels"]).double().mean().item()),
    ):
        taker = scores_by(metric, task)
        for part in torch.arange(400).split(150):
            taker.update({"logits": scores[part]}, {"labels": labels[part]})
        scored = taker.scored()
        assert (scored.value, scored.num_samples) == (pytest.approx(share), 400)
        assert np.std(scored.resampled) == pytest.approx(spread, rel=0.35)


def test_metrics_cannot_change_what_the_next_one_sees() -> None:
    task = text_task()

    def spoil(outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        outputs["logits"].zero_()
        return torch.ones(len(batch["labels"]))

    outputs = {"logits": torch.eye(2)}
    scores_by(Metric(spoil), task).update(outputs, {"labels": torch.tensor([0, 1])})
    assert torch.equal(outputs["logits"], torch.eye(2))


def test_inputs_are_given_by_name_by_place_or_both() -> None:
    def model(a: int, b: int = 0) -> tuple[int, int]:
        return a, b

    assert call_model(model, 1) == (1, 0)
    assert call_model(model, (1, 2)) == (1, 2)
    assert call_model(model, {"b": 2, "a": 1}) == (1, 2)
    assert call_model(model, ModelInputs((1,), {"b": 3})) == (1, 3)


def test_statistics_come_from_unlabelled_data_where_it_is_given() -> None:
    from dataclasses import replace

    from torch.utils.data import TensorDataset

    inputs, labels = torch.randn(8, 3), torch.zeros(8, dtype=torch.long)
    train = TensorDataset(inputs, labels)
    task = Task(lambda: nn.Linear(3, 2), train, train, train, F.cross_entropy, {}, inputs[:1])
    assert torch.equal(task.calibration_inputs(torch.tensor([2])), inputs[2:3])
    alone = replace(task, calibration=TensorDataset(inputs * 2))
    assert torch.equal(alone.calibration_inputs(torch.tensor([2])), inputs[2:3] * 2)
    labelled = replace(task, calibration=TensorDataset(inputs * 3, labels))
    assert torch.equal(labelled.calibration_inputs(torch.tensor([2])), inputs[2:3] * 3)
