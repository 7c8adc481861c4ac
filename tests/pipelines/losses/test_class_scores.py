"""Losses and sensitivities read class scores along the classes, and leave ignored labels and impossible classes out."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.losses.class_scores import class_axis, divergence, smoothing_term
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.sensitivities import WIDTHS, Subject
from paretta.pipelines.sensitivities.fisher import squared_gradients
from paretta.pipelines.sensitivities.kl import Kl
from paretta.pipelines.stages.distill import Distill, distillation_loss, soft_divergence
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.training.batch import Batch
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit, task_loss
from paretta.search_spaces.errors import WrongInput

TOKENS, CLASSES = 6, 5


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs [n, tokens, classes], targets [n, tokens]."""
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def right(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(-1) == targets).float().mean(1)


def token_task(num: int = 16, ignored: int = 0, **more: int) -> Task:
    """A linear layer for each token; the last `ignored` tokens of each sample have no label."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(num, TOKENS, 4, generator=generator)
    targets = torch.randint(0, CLASSES, (num, TOKENS), generator=generator)
    targets[:, TOKENS - ignored :] = -100
    data = TensorDataset(inputs, targets)
    metrics = {"accuracy": Metric(right)}
    return Task(lambda: nn.Linear(4, CLASSES), data, data, data, token_loss, metrics, inputs[:1], **more)  # type: ignore[arg-type]


def bench(task: Task, teacher: nn.Module | None = None) -> Bench:
    return Bench(task, Ranks.alone(), teacher=teacher)


def batch_of(task: Task) -> Batch:
    assert isinstance(task.train, TensorDataset)
    inputs, targets = task.train.tensors
    return Batch(inputs, targets, torch.arange(len(inputs)))


@pytest.mark.parametrize(
    ("shape", "targets", "stated", "axis"),
    [
        ([8, 3], torch.zeros(8).long(), None, 1),
        ([8, 20, 5], torch.zeros(8, 20).long(), None, 2),
        ([8, 5, 20], torch.zeros(8, 20).long(), None, 1),
        ([8, 5, 6, 7], torch.zeros(8, 6, 7).long(), None, 1),
        ([8, 5, 5], torch.zeros(8, 5).long(), -1, 2),
        ([8, 5, 5], torch.zeros(8, 5).long(), 1, 1),
        ([8, 20, 5], torch.zeros(8), -1, 2),
    ],
)
def test_the_class_axis_is_the_one_that_labels_lack_or_the_task_states(
    shape: list[int], targets: Tensor, stated: int | None, axis: int
) -> None:
    assert class_axis(replace(token_task(), class_axis=stated), shape, targets, where="distill") == axis


@pytest.mark.parametrize(
    ("shape", "targets", "message"),
    [
        ([8], torch.zeros(8), "must be class scores"),
        ([8, 1], torch.zeros(8, 1), "must be class scores"),
        ([8, 5, 5], torch.zeros(8, 5).long(), "class_axis=-1"),
        ([8, 20, 5], torch.zeros(8), "not told"),
    ],
)
def test_an_axis_that_cannot_be_told_is_refused(shape: list[int], targets: Tensor, message: str) -> None:
    with pytest.raises(WrongInput, match=message):
        class_axis(token_task(), shape, targets, where="distill")


def test_check_refuses_labels_that_could_lack_either_of_two_axes() -> None:
    data = TensorDataset(torch.randn(8, CLASSES, 4), torch.zeros(8, CLASSES).long())
    task = replace(token_task(), train=data, validation=data, test=data, example_input=torch.zeros(1, CLASSES, 4))
    with pytest.raises(WrongInput, match="give the task `class_axis`"):
        check_task(task)
    check_task(replace(task, class_axis=-1))
    with pytest.raises(WrongInput, match="must be an axis of outputs"):
        check_task(replace(task, class_axis=3))


def test_distillation_compares_the_distributions_over_classes() -> None:
    """A teacher whose scores differ by one constant for each class: over tokens no difference would be seen."""
    torch.manual_seed(0)
    task, model = token_task(), nn.Linear(4, CLASSES)
    teacher = nn.Linear(4, CLASSES)
    with torch.no_grad():
        teacher.weight.copy_(model.weight)
        teacher.bias.copy_(model.bias + 20 * torch.randn(CLASSES, generator=torch.Generator().manual_seed(1)))
    batch = batch_of(task)
    outputs = model(batch.inputs)
    expected, found = (scores.log_softmax(-1) for scores in (teacher(batch.inputs), outputs))
    gap = functional.kl_div(found, expected, reduction="none", log_target=True).sum(-1).mean()
    assert gap > 0.5
    loss = distillation_loss(bench(task, teacher), Distill(weight=1.0, temperature=1.0))
    assert loss(outputs, batch).item() == pytest.approx(gap.item(), rel=1e-5)


def test_ignored_labels_are_left_out_of_every_term() -> None:
    """The loss of padded samples is that of the same samples without their padding, and so are its gradients."""
    torch.manual_seed(0)
    padded, teacher = token_task(ignored=4), nn.Linear(4, CLASSES)
    batch = batch_of(padded)
    short = Batch(batch.inputs[:, :2], batch.targets[:, :2], batch.indices)
    outputs = torch.randn(16, TOKENS, CLASSES, requires_grad=True)
    for make in (
        lambda task: distillation_loss(bench(task, teacher), Distill(weight=0.5, temperature=2.0, label_smoothing=0.1)),
        lambda task: task_loss(bench(task), TrainSettings(label_smoothing=0.3)),
    ):
        loss: Callable[[Tensor, Batch], Tensor] = make(padded)
        cut = TensorDataset(short.inputs, short.targets)
        expected = make(replace(padded, train=cut, example_input=short.inputs[:1]))(outputs[:, :2], short)
        found = loss(outputs, batch)
        (gradient,) = torch.autograd.grad(found, outputs)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)
        assert bool((gradient[:, 2:] == 0).all())
        assert bool((gradient[:, :2] != 0).any())


def test_smoothing_is_torch_s_own_with_ignored_labels_and_classes_last() -> None:
    task = token_task(ignored=2)
    batch = batch_of(task)
    outputs = torch.randn(16, TOKENS, CLASSES)
    found = task_loss(bench(task), TrainSettings(label_smoothing=0.2))(outputs, batch)
    flat = outputs.flatten(0, 1), batch.targets.flatten()
    assert float(found) == pytest.approx(float(functional.cross_entropy(*flat, label_smoothing=0.2)), rel=1e-6)


def test_a_batch_without_a_label_that_counts_changes_nothing() -> None:
    task = token_task(ignored=TOKENS)
    model = task.new_model()
    assert isinstance(model, nn.Linear)
    before = model.weight.detach().clone()
    losses = fit(model, bench(task), TrainSettings(optimizer="sgd", lr=1.0, batch_size=8))
    assert losses == (0.0,)
    assert torch.equal(model.weight, before)


def test_plain_class_labels_may_be_ignored_and_others_are_checked() -> None:
    inputs, labels = torch.randn(32, 4), torch.arange(32) % 3
    labels[::4] = -100
    data = TensorDataset(inputs, labels)
    metrics = {"accuracy": Metric(lambda o, t: (o.argmax(1) == t).float())}
    task = Task(lambda: nn.Linear(4, 3), data, data, data, functional.cross_entropy, metrics, inputs[:1])
    check_task(task)
    with pytest.raises(WrongInput, match=r"must be 0\.\.2.*got \[-100\]"):
        check_task(replace(task, ignore_label=None))
    labels[5] = 3
    with pytest.raises(WrongInput, match=r"\[5\]: class labels must be 0\.\.2.*got \[3\]"):
        check_task(task)
    labels[:] = -100
    with pytest.raises(WrongInput, match="at least one class label must count"):
        check_task(task)


@given(
    scores=st.lists(st.lists(st.floats(-8, 8), min_size=4, max_size=4), min_size=2, max_size=2),
    ruled_out=st.sets(st.integers(0, 3), max_size=2),
)
def test_classes_ruled_out_add_nothing(scores: list[list[float]], ruled_out: set[int]) -> None:
    """The divergence, its gradient and the smoothing are those over the classes that are left."""
    kept = [index for index in range(4) if index not in ruled_out]
    whole = torch.tensor(scores, dtype=torch.float64)
    masked = whole.clone()
    masked[:, list(ruled_out)] = -torch.inf
    student = masked[1:].clone().requires_grad_()
    gap = divergence(masked[:1], student, 1)
    p, q = whole[:1, kept].softmax(1), whole[1:, kept].softmax(1)
    assert gap.item() == pytest.approx(float((p * (p / q).log()).sum()), abs=1e-9)
    (gradient,) = torch.autograd.grad(gap.sum(), student)
    assert gradient[0, kept].tolist() == pytest.approx((q - p)[0].tolist(), abs=1e-9)
    assert bool((gradient[0, list(ruled_out)] == 0).all())
    assert float(smoothing_term(masked[1:], 1)) == pytest.approx(float(-q.log().mean()), abs=1e-9)


class Masked(nn.Module):
    """Its last class is never the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, CLASSES)
        self.register_buffer("mask", torch.tensor([0.0] * (CLASSES - 1) + [-torch.inf]))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.linear(inputs) + self.mask
        return outputs


def test_models_that_rule_classes_out_are_distilled_and_their_sensitivity_is_finite() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(64, 4)
    data = TensorDataset(inputs, torch.arange(64) % (CLASSES - 1))
    metrics = {"accuracy": Metric(lambda o, t: (o.argmax(1) == t).float())}
    task = Task(Masked, data, data, data, functional.cross_entropy, metrics, inputs[:1])
    teacher, student = Masked().eval(), Masked()
    settings = Distill(epochs=30, lr=0.05, weight=1.0, temperature=1.0, batch_size=64)

    def gap() -> float:
        with torch.no_grad():
            return float(soft_divergence(student(inputs), teacher(inputs), 1.0))

    before = gap()
    settings.apply(student, bench(task, teacher))
    assert gap() < 0.1 * before
    subject = Subject(teacher, ("linear",), lambda _, weight, bits: (weight * 2**bits).round() / 2**bits)
    costs = Kl().costs(subject, bench(task))
    left, rounded = teacher.linear, subject.rounded("linear", teacher.linear.weight, WIDTHS[0])
    full = (inputs @ left.weight.T + left.bias)[:, :-1].log_softmax(1)
    coarse = (inputs @ rounded.T + left.bias)[:, :-1].log_softmax(1)
    expected = functional.kl_div(coarse, full, reduction="batchmean", log_target=True)
    assert float(costs[0, 0]) == pytest.approx(expected.item(), rel=1e-4)


def test_sensitivities_look_at_labels_that_count_alone() -> None:
    """Half of the samples have no label: kl and fisher say what they say of the other half."""
    torch.manual_seed(0)
    task, model = token_task(num=8, ignored=3), nn.Linear(4, CLASSES).eval()
    assert isinstance(task.train, TensorDataset)
    inputs, targets = task.train.tensors
    targets[::2] = -100
    half = replace(task, train=TensorDataset(inputs[1::2], targets[1::2]))
    subject = Subject(nn.Sequential(model), ("0",), lambda _, weight, bits: (weight * 2**bits).round() / 2**bits)
    assert torch.allclose(Kl().costs(subject, bench(task)), Kl().costs(subject, bench(half)))
    found, expected = (squared_gradients(subject, bench(each))[0] for each in (task, half))
    assert torch.allclose(found, expected)
    coarse = functional.linear(inputs[1::2, :3], subject.rounded("0", model.weight, WIDTHS[0]), model.bias).log_softmax(
        -1
    )
    gap = functional.kl_div(coarse, model(inputs[1::2, :3]).log_softmax(-1), reduction="none", log_target=True)
    assert float(Kl().costs(subject, bench(task))[0, 0]) == pytest.approx(gap.sum(-1).mean().item(), rel=1e-5)
