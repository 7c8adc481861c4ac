"""The distillation loss is Hinton's, and the teacher runs once per sample."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench
from paretta.pipelines.model.feature_distance import FeaturePairs
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stages_of
from paretta.pipelines.stages.distill import Distill, distillation_loss, soft_divergence, teacher_scores
from paretta.pipelines.state.cache import Cache
from paretta.pipelines.tasks.digits import make
from paretta.pipelines.training.batch import Batch
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan


class Counting(nn.Module):
    """A teacher that counts the samples it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.asked = make(width=2, hidden=4).new_model(), 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        return self.model(images)


def bench(teacher: nn.Module | None, cache: Cache | None = None) -> Bench:
    return Bench(make(width=2, hidden=4), Ranks.alone(), teacher=teacher, teacher_key="t", cache=cache or Cache())


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # a loaded machine is no fault of the formula
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
    found = distillation_loss(given, Distill(temperature=2.0, weight=0.25))(
        outputs, Batch(images, labels, torch.arange(6))
    )
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
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["teacher-t.safetensors"]


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
    task = replace(make(), train=data, example_input=torch.zeros(1, 3))
    with pytest.raises(WrongInput, match="must be class scores"):
        distillation_loss(Bench(task, Ranks.alone(), teacher=nn.Linear(3, 1)), Distill())


def test_a_table_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher runs for each batch instead, with the same loss."""
    teacher, images = Counting().eval(), make().train.tensors[0][:6]
    batch, outputs = Batch(images, torch.arange(6), torch.arange(6)), torch.randn(6, 10)
    kept = distillation_loss(bench(teacher), Distill())(outputs, batch)
    monkeypatch.setattr("paretta.pipelines.stages.distill.MAX_TABLE_BYTES", 1000)
    given, teacher.asked = bench(teacher), 0
    live = distillation_loss(given, Distill())
    assert torch.allclose(live(outputs, batch), kept)
    assert teacher.asked == 1 + 6
    assert given.cache.memory == {}


def test_a_consistent_teacher_answers_for_the_view_that_the_model_sees() -> None:
    teacher, images = Counting().eval(), make().train.tensors[0][:6]
    outputs, moved = torch.randn(6, 10), images.roll(1, dims=3)
    loss = distillation_loss(bench(teacher), Distill(temperature=2.0, weight=1.0, consistent=True))
    expected = soft_divergence(outputs, teacher(moved).detach(), 2.0)
    assert torch.allclose(loss(outputs, Batch(moved, torch.arange(6), torch.arange(6))), expected)


def test_features_come_nearer_through_a_projection() -> None:
    torch.manual_seed(2)
    given = bench(make(width=4, hidden=8).new_model().eval())
    student = make(width=2, hidden=4).new_model()
    settings = {"features": {"conv2": "conv2", "fc1": "fc1"}, "feature_weight": 5.0}

    def distance(projections: nn.Module) -> float:
        with FeaturePairs(student, given.teacher, settings["features"], given) as pairs, torch.no_grad():
            pairs.projections = projections
            student.eval()(given.task.train.tensors[0])
            given.teacher(given.task.train.tensors[0])
            return float(pairs.distance())

    pairs = FeaturePairs(student, given.teacher, settings["features"], given)
    before = distance(pairs.projections)
    loss = distillation_loss(given, Distill(weight=1.0, **settings), pairs)
    with pairs:
        fit(student, given, TrainSettings(epochs=6, lr=0.01, batch_size=64), loss=loss, beside=pairs.projections)
    assert distance(pairs.projections) < 0.6 * before
    assert [type(projection) for projection in pairs.projections] == [nn.Linear, nn.Linear]
    assert all(not module._forward_hooks for module in (*student.modules(), *given.teacher.modules()))


def test_the_features_distance_is_relative_and_channels_last() -> None:
    given = bench(make(width=2, hidden=4).new_model().eval())
    with FeaturePairs(given.task.new_model(), given.teacher, {"conv1": "conv1"}, given) as pairs:
        ours, theirs = torch.randn(3, 2, 8, 8), torch.randn(3, 2, 8, 8)
        for tap, values in zip(pairs._ends[0], (ours, theirs), strict=True):
            tap.said = values.movedim(1, -1)
        assert float(pairs.distance()) == pytest.approx(float(((ours - theirs) ** 2).mean() / (theirs**2).mean()))


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ({"conv9": "conv1"}, "no student layer is called 'conv9'; did you mean"),
        ({"conv1": "con"}, "no teacher layer is called 'con'"),
        ({"conv1": "fc1"}, "must differ in no more than their width"),
    ],
)
def test_pairs_that_do_not_fit_are_named(pairs: dict[str, str], told: str) -> None:
    given = bench(make(width=2, hidden=4).new_model().eval())
    with pytest.raises(WrongInput, match=told):
        Distill(features=pairs).apply(given.task.new_model(), given)


def test_a_baseline_that_distils_is_refused_before_it_runs() -> None:
    with pytest.raises(WrongInput, match=r"baseline\[0\] \(distill\): needs a teacher"):
        stages_of(Plan(baseline=({"kind": "distill"},)))
