"""The distillation loss is Hinton's, and the teacher is asked once."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from pipelines.bench import Bench, Cache
from pipelines.ranks import Ranks
from pipelines.stages.distill import Distill, distillation_loss, soft_divergence, teacher_scores
from pipelines.tasks.digits import make
from search_spaces.errors import WrongInput


class Counting(nn.Module):
    """A teacher that counts how many samples it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.asked = make(width=2, hidden=4).new_model(), 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        return self.model(images)


def bench(teacher: nn.Module | None, cache: Cache | None = None) -> Bench:
    return Bench(make(width=2, hidden=4), Ranks.alone(), teacher=teacher, teacher_key="t", cache=cache or Cache())


@given(
    scores=st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=2),
    temperature=st.floats(0.5, 20),
)
def test_the_divergence_is_the_sum_written_out(scores: list[tuple[float, ...]], temperature: float) -> None:
    student, teacher = torch.tensor([scores[0]]).double(), torch.tensor([scores[1]]).double()
    q, p = ((row / temperature).exp() / (row / temperature).exp().sum() for row in (student[0], teacher[0]))
    expected = temperature**2 * float((p * (p / q).log()).sum())
    assert float(soft_divergence(student, teacher, temperature)) == pytest.approx(expected, abs=1e-9)


def test_hot_gradients_keep_their_size() -> None:
    """Hinton et al. (2015), section 2.1: for high T the gradient tends to that of matching centred scores / classes."""
    student = torch.tensor([[1.0, -0.5, 0.2]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.3, 0.9, -0.4]], dtype=torch.float64)
    soft_divergence(student, teacher, 1000.0).backward()
    centred = (student - student.mean()) - (teacher - teacher.mean())
    assert torch.allclose(student.grad, centred.detach() / 3, atol=1e-3)


def test_the_mixture_weighs_both_losses() -> None:
    torch.manual_seed(0)
    teacher = Counting().eval()
    given = bench(teacher)
    images, labels = (tensor[:6] for tensor in given.task.train.tensors)
    outputs = torch.randn(6, 10)
    found = distillation_loss(given, temperature=2.0, weight=0.25)(outputs, labels, torch.arange(6))
    hard = functional.cross_entropy(outputs, labels)
    soft = soft_divergence(outputs, teacher(images).detach(), 2.0)
    assert torch.allclose(found, 0.75 * hard + 0.25 * soft)


def test_the_teacher_is_asked_once_for_many_trials_and_processes(tmp_path: Path) -> None:
    teacher = Counting().eval()
    cache = Cache(tmp_path)
    first = teacher_scores(bench(teacher, cache))
    again = teacher_scores(bench(teacher, cache))
    elsewhere = teacher_scores(bench(teacher, Cache(tmp_path)))
    assert teacher.asked == len(first) == 1078
    assert torch.equal(first, again)
    assert torch.equal(first, elsewhere)
    assert [path.name for path in tmp_path.iterdir()] == ["teacher-t.safetensors"]


def test_a_student_comes_nearer_to_its_teacher() -> None:
    torch.manual_seed(1)
    given = bench(make(width=4, hidden=8).new_model().eval())
    student = given.task.new_model()
    table = teacher_scores(given)

    def distance() -> float:
        with torch.no_grad():
            return float(soft_divergence(student.eval()(given.task.train.tensors[0]), table, 2.0))

    before = distance()
    Distill(epochs=8, lr=0.01, weight=1.0, temperature=2.0, batch_size=64).apply(student, given)
    assert distance() < 0.3 * before


def test_the_baseline_has_no_teacher() -> None:
    with pytest.raises(WrongInput, match="needs a teacher"):
        teacher_scores(bench(None))


def test_outputs_without_classes_are_refused() -> None:
    data = TensorDataset(torch.zeros(4, 3), torch.zeros(4, 1))
    task = replace(make(), train=data)
    with pytest.raises(WrongInput, match="must be class scores"):
        distillation_loss(Bench(task, Ranks.alone(), teacher=nn.Linear(3, 1)), temperature=1.0, weight=0.5)
