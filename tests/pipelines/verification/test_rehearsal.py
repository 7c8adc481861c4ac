"""A model that will not stand what a sweep does with it is told before the sweep, with the line that is to blame."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.stage import stages_of
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.tasks.digits import correct
from paretta.pipelines.verification import rehearsal
from paretta.pipelines.verification.rehearsal import (
    MAX_ALIKE,
    MAX_PLANS,
    few_alike,
    rehearse,
    require_export,
    varied_plans,
)
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan

TRAIN = {"kind": "train", "epochs": 50, "lr": 0.01}


class Net(nn.Module):
    """Two layers; what subclasses do to the hidden values is their fault."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, values: Tensor) -> Tensor:
        answer: Tensor = self.last(self.changed(torch.relu(self.first(values))))
        return answer

    def changed(self, hidden: Tensor) -> Tensor:
        return hidden


class Branching(Net):
    def changed(self, hidden: Tensor) -> Tensor:
        return hidden * 2 if hidden.sum() > 1 else hidden


class Hidden(Net):
    """Its decision by values is one that the exporter cannot see, and few samples take the other course."""

    def changed(self, hidden: Tensor) -> Tensor:
        try:
            if hidden.sum() > 1000:
                return hidden * 2
        except RuntimeError:
            pass
        return hidden


class ByBatch(Net):
    def changed(self, hidden: Tensor) -> Tensor:
        return hidden if hidden.shape[0] < 100 else hidden * 2


class Packing(Net):
    def changed(self, hidden: Tensor) -> Tensor:
        lengths = (hidden.sum(1) > 0).long() + 1
        steps = hidden.reshape(-1, 2, 8)
        packed = nn.utils.rnn.pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=2)[0].reshape(-1, 16)


class SizedByHand(Net):
    def changed(self, hidden: Tensor) -> Tensor:
        return hidden.reshape(int(hidden.shape[0]), 2, 8).reshape(int(hidden.shape[0]), 16)


class Drawing(Net):
    def changed(self, hidden: Tensor) -> Tensor:
        return functional.dropout(hidden, 0.5)


class Counting(Net):
    calls = 0

    def changed(self, hidden: Tensor) -> Tensor:
        self.calls += 1
        return hidden + self.calls


class Single(Net):
    def changed(self, hidden: Tensor) -> Tensor:
        return hidden + 1 if hidden.shape[0] == 1 else hidden


class Tied(Net):
    def changed(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden @ self.first.weight, self.first.weight)


class Plain(Net):
    def changed(self, hidden: Tensor) -> Tensor:
        if not isinstance(self.first, nn.Linear):
            raise TypeError("this model wants layers of torch's own")
        return hidden


class Zero(Net):
    def changed(self, hidden: Tensor) -> Tensor:
        return hidden * 0


def task_of(model: type[nn.Module]) -> Task:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(40, 6, generator=generator)
    values[-1] *= 1000
    data = TensorDataset(values, torch.arange(40) % 3)
    metrics = {"accuracy": Metric(correct)}
    return Task(model, data, data, data, functional.cross_entropy, metrics, torch.zeros(1, 6))


BY_VALUE = "; a file has one course for all values: decide by shapes or with torch.where"


@pytest.mark.parametrize("model", [Net, Zero, Tied])
def test_a_model_that_answers_alike_exported_passes(model: type[nn.Module]) -> None:
    require_export(task_of(model))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (Branching, f"exporting it to ONNX failed: GuardOnDataDependentSymNode.*{__file__}:.*{BY_VALUE}"),
        (Packing, f"exporting it to ONNX failed: .*{__file__}:.*{BY_VALUE}"),
        (SizedByHand, "the model fixes its batch size at 2, that of the batch it was traced with; take the size from"),
        (Drawing, "its exported file must answer a batch of 1 as it does; got 'a difference of"),
        (Counting, "its exported file must answer a batch of [12] as it does"),
        (Single, "its exported file must answer a batch of 1 as it does"),
        (Hidden, r"its exported file must answer sample 39 of task\.validation as it does"),
        (ByBatch, "the model decides by the batch size, so the file is right for lengths up to 99 only"),
    ],
)
def test_one_that_answers_otherwise_is_told(model: type[nn.Module], told: str) -> None:
    with pytest.raises(WrongInput, match=told) as caught:
        require_export(task_of(model))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("task.model: ")


class Normed(Branching):
    """Its norms are looked for in its graph before it is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Sequential(nn.Linear(16, 3), nn.BatchNorm1d(3))  # type: ignore[assignment]


def test_nothing_is_printed_of_a_graph_that_cannot_be_traced(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WrongInput, match="exporting it to ONNX failed"):
        require_export(task_of(Normed))
    assert capfd.readouterr() == ("", "")


def rehearsed(*stages: dict[str, object], model: type[nn.Module] = Net) -> list[str]:
    steps: list[str] = []
    rehearse([Plan((TRAIN,), stages)], task_of(model), where="space", tell=steps.append)
    return steps


def test_sound_plans_are_carried_out_once_on_few_samples() -> None:
    iterate = {"kind": "iterate", "prune": {"kind": "prune", "sparsity": 0.5}, "retrain": TRAIN, "steps": 100}
    assert rehearsed(iterate, {"kind": "quantize", "bits": 8}, {"kind": "distill", "epochs": 900}) == [
        "stages: plan 1 of 1 on 8 samples"
    ]


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ({"kind": "distill", "features": {"nope": "first"}}, "no student layer is called 'nope'"),
        ({"kind": "distill", "features": {"first": "frist"}}, "no teacher layer is called 'frist'"),
        ({"kind": "transfer", "layers": "conv*"}, "no layer is called 'conv*'"),
        ({"kind": "prune", "sparsity": {"conv*": 0.5}}, "'conv*'"),
        ({"kind": "quantize", "bits": {"conv*": 4}}, "'conv*'"),
        ({"kind": "student", "variant": "small"}, "no variant of the task is called 'small'"),
        (
            {
                "kind": "iterate",
                "prune": {"kind": "prune", "sparsity": 0.1},
                "retrain": {"kind": "distill", "features": {"no": "first"}},
            },
            "no student layer is called 'no'",
        ),
    ],
)
def test_names_that_the_model_does_not_have_are_told_with_the_stage(stage: dict[str, object], told: str) -> None:
    with pytest.raises(WrongInput) as caught:
        rehearsed(stage)
    assert str(caught.value).startswith(f"space, stage 1 ({stage['kind']}): ")
    assert told in str(caught.value)


def test_what_fails_after_a_stage_alone_is_told_with_the_line_of_the_model() -> None:
    with pytest.raises(WrongInput, match=rf"space, quantize: exporting the model after it failed.*{__file__}:"):
        rehearsed({"kind": "quantize", "bits": 8}, model=Plain)


class HiddenNorm(Net):
    """The norm needs two samples in training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def changed(self, hidden: Tensor) -> Tensor:
        values: Tensor = self.norm(hidden)
        return values


def test_parts_of_one_sample_are_tried_as_such() -> None:
    rehearsed({**TRAIN, "batch_size": 128, "accumulate": 32}, model=HiddenNorm)
    with pytest.raises(WrongInput, match=r"stage 1 \(train\).*more than 1 value per channel"):
        rehearsed({**TRAIN, "batch_size": 128, "accumulate": 128}, model=HiddenNorm)


@pytest.mark.slow
def test_a_limit_that_some_plans_keep_is_left_to_the_trials() -> None:
    plans = [
        Plan((TRAIN,), ({"kind": "prune", "sparsity": share}, {"kind": "quantize", "bits": {"at_most": "920B"}}))
        for share in (0.0, 0.9)
    ]
    rehearse(plans, task_of(Net), where="space", tell=lambda _: None)
    with pytest.raises(WrongInput, match="raise it or prune first"):
        rehearse(plans[:1], task_of(Net), where="space", tell=lambda _: None)


def test_plans_that_differ_in_numbers_alone_are_rehearsed_once() -> None:
    pruned = [Plan((), ({"kind": "prune", "sparsity": share},)) for share in (0.1, 0.2, 0.3)]
    named = [Plan((), ({"kind": "prune", "sparsity": {name: 0.5}},)) for name in "abcdefgh"]
    assert varied_plans([*pruned, *named]) == [pruned[0], *named[: MAX_PLANS - 1]]


def test_of_those_one_that_asks_something_of_each_stage_is_rehearsed() -> None:
    plans = [
        Plan((), ({"kind": "prune", "sparsity": {"first": share}}, {"kind": "distill", "weight": weight}))
        for share in (0.0, 0.6)
        for weight in (0.0, 1.0)
    ]
    assert varied_plans(plans) == [plans[3]]


def test_of_many_stages_that_differ_in_numbers_alone_a_few_are_rehearsed() -> None:
    pruned = [{"kind": "prune", "sparsity": share / 1000} for share in range(200)]
    plan = Plan((), (*pruned, {"kind": "prune", "sparsity": {"first": 0.5}}, {"kind": "quantize", "bits": 8}))
    assert few_alike(stages_of(plan)) == [*range(MAX_ALIKE), 200, 201]


def test_stages_that_there_was_no_time_for_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def slow(*_: object) -> nn.Module:
        clock[0] += 1000.0
        return Net()

    monkeypatch.setattr(rehearsal, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr("paretta.pipelines.stages.transfer.Transfer.apply", slow)
    plan = Plan((), ({"kind": "transfer"}, {"kind": "quantize", "bits": {"nope": 8}}))
    *_, told = rehearse([plan], task_of(Net), where="space", tell=lambda _: None).unchanged
    assert told.startswith("space: 1 of 2 stages, from stage 2 (quantize), were not tried beforehand")


def test_the_task_is_left_as_it_was() -> None:
    model = Net()
    given = replace(task_of(Net), model=model)
    before = [parameter.clone() for parameter in model.parameters()]
    rehearse([Plan((TRAIN,), ({"kind": "prune", "sparsity": 0.5},))], given, where="space", tell=lambda _: None)
    assert all(map(torch.equal, before, model.parameters()))
