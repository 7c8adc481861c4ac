"""Students, transferred parameters, other activations and norms: each does what it says and says why it cannot."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stage_of, stages_of
from paretta.pipelines.stages.fold_norms import FoldNorms
from paretta.pipelines.stages.recalibrate_norms import RecalibrateNorms
from paretta.pipelines.stages.student import Student
from paretta.pipelines.stages.swap_activation import SwapActivation
from paretta.pipelines.stages.transfer import Transfer
from paretta.pipelines.tasks.digits import DigitsNet, make
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan


@pytest.fixture(scope="module")
def bench() -> Bench:
    task = make(width=4, hidden=8)
    with seeded(7):
        return Bench(task, Ranks.alone(), seed=1, teacher=task.new_model().eval())


def net() -> DigitsNet:
    with seeded(3):
        return DigitsNet(width=4, hidden=8)


def test_a_student_is_the_variant_with_its_options(bench: Bench) -> None:
    student = Student(variant="perceptron", options={"width": 7, "depth": 3}).apply(net(), bench)
    widths = [module.out_features for module in student.modules() if isinstance(module, nn.Linear)]
    assert widths == [7, 7, 7, 10]


def test_a_variant_that_comes_trained_is_copied(bench: Bench) -> None:
    trained = net()
    given = replace(bench, task=replace(bench.task, variants={"trained": trained}))
    student = Student(variant="trained").apply(nn.Identity(), given)
    assert student is not trained
    assert torch.equal(student.fc2.weight, trained.fc2.weight)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"variant": "perceptro"}, "did you mean 'perceptron'"),
        ({"variant": "perceptron", "options": {"height": 3}}, "must fit perceptron"),
    ],
)
def test_a_student_that_does_not_exist_is_named(bench: Bench, settings: dict[str, object], told: str) -> None:
    with pytest.raises(WrongInput, match=told):
        Student.model_validate(settings).apply(net(), bench)


def test_matching_parameters_and_moments_come_from_the_baseline(bench: Bench) -> None:
    with torch.no_grad():
        bench.teacher.bn1.running_mean.fill_(0.25)
    model = DigitsNet(width=4, hidden=9)
    before = model.fc1.weight.detach().clone()
    Transfer().apply(model, bench)
    assert torch.equal(model.conv2.weight, bench.teacher.conv2.weight)
    assert torch.equal(model.bn1.running_mean, bench.teacher.bn1.running_mean)
    assert torch.equal(model.fc1.weight, before), "another shape keeps its values"


def test_a_file_gives_the_layers_that_are_asked_for(bench: Bench, tmp_path: Path) -> None:
    source, model = net(), DigitsNet(width=4, hidden=8)
    save_file(source.state_dict(), tmp_path / "x.safetensors")
    before = model.fc2.weight.detach().clone()
    Transfer(source=str(tmp_path / "x.safetensors"), layers="conv*").apply(model, bench)
    assert torch.equal(model.conv1.weight, source.conv1.weight)
    assert torch.equal(model.fc2.weight, before)


def test_nothing_that_fits_is_an_error(bench: Bench) -> None:
    with pytest.raises(WrongInput, match="no parameter of the model has its name and shape in the source"):
        Transfer().apply(nn.Sequential(nn.Linear(64, 10)), bench)


def test_a_damaged_file_is_named(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WrongInput, match="cannot be read"):
        Transfer(source=str(tmp_path / "x.safetensors")).apply(net(), bench)


def test_structure_alone_starts_anew(bench: Bench) -> None:
    model, again = (Transfer(parameters="none").apply(net(), bench) for _ in range(2))
    assert not torch.equal(model.fc1.weight, net().fc1.weight)
    assert torch.equal(model.fc1.weight, again.fc1.weight)
    assert model.fc1.weight.std().item() == pytest.approx((1 / 32 / 3) ** 0.5, rel=0.15)


def test_activations_are_swapped_and_the_rest_is_kept(bench: Bench) -> None:
    model = SwapActivation(to="hardswish").apply(net(), bench)
    assert isinstance(model.activation, nn.Hardswish)
    images = torch.rand(2, 1, 8, 8)
    reference = net()
    reference.activation = nn.Hardswish()
    assert torch.equal(model.eval()(images), reference.eval()(images))
    with pytest.raises(WrongInput, match="no module of gelu activation"):
        SwapActivation(of="gelu").apply(net(), bench)


def test_moments_become_those_of_the_data(bench: Bench) -> None:
    model = RecalibrateNorms(num_samples=1024).apply(net(), bench)
    seen: list[torch.Tensor] = []
    model.conv1.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        model(bench.task.train.tensors[0])
    assert torch.allclose(model.bn1.running_mean, seen[0].mean((0, 2, 3)), atol=0.01)
    assert torch.allclose(model.bn1.running_var, seen[0].var((0, 2, 3)), rtol=0.1)
    assert model.bn1.momentum == 0.1


def test_folded_norms_leave_the_answers(bench: Bench) -> None:
    model, images = net(), torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        for _ in range(3):
            model.train()(bench.task.train.tensors[0])
        expected = model.eval()(images)
        folded = FoldNorms().apply(model, bench)
    assert torch.allclose(folded(images), expected, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (Plan(({"kind": "transfer"},)), "the baseline cannot be its own source"),
        (
            Plan(stages=({"kind": "prune", "sparsity": 0.5}, {"kind": "student", "variant": "x"})),
            "would throw away what `prune` did; put `student` before it",
        ),
        (
            Plan(stages=({"kind": "sparsify", "sparsity": 0.5}, {"kind": "transfer", "parameters": "none"})),
            "would throw away what `sparsify` chose by value",
        ),
    ],
)
def test_stages_that_undo_each_other_are_refused(plan: Plan, told: str) -> None:
    with pytest.raises(WrongInput, match=told):
        stages_of(plan)


def test_a_source_must_be_there_before_anything_runs() -> None:
    with pytest.raises(WrongInput, match=r"transfer\)\.source: names a file that does not exist"):
        stage_of({"kind": "transfer", "source": "/nowhere/x.safetensors"})
