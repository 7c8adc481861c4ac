"""Pruned layers are fitted to the outputs of before: exactly where the rest can tell what was removed."""

from copy import deepcopy
from typing import cast

import pytest
import torch
from quantized_models import accuracy, bench_of, images, residual
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines.post_training.norm_statistics import stale_norms
from paretta.pipelines.stage import stage_of
from paretta.pipelines.stages.prune import Prune
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import WrongInput

INPUTS = images(80)


def twins() -> nn.Sequential:
    """Every hidden channel has a twin of another size, so that one of both can stand in for both."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 10),
    )
    with torch.no_grad():
        for norm in model[1:2]:
            norm.running_mean.normal_()
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
        for parameter in (model[0].weight, model[1].weight, model[1].bias, model[1].running_mean, model[3].weight):
            half = len(parameter) // 2
            parameter[half:] = parameter[:half]
        model[3].bias[3:] = model[3].bias[:3]
        # twins: twice as large after the norm, and after the second convolution
        model[1].weight[2:] *= 2
        model[1].bias[2:] *= 2
        model[3].weight[3:] *= 0.5
        model[3].bias[3:] *= 0.5
    return model.eval()


def pruned(model: nn.Module, **settings: object) -> nn.Module:
    stage = Prune.model_validate({"sparsity": 0.5, "repair_samples": 80, **settings})
    return stage.apply(model, bench_of(model, INPUTS)).eval()


def test_what_twins_can_stand_in_for_is_made_up_for() -> None:
    bare = pruned(twins(), importance="l1")
    repaired = pruned(twins(), importance="l1", repair="least_squares")
    with torch.no_grad():
        wanted = twins()(INPUTS)
        assert repaired[0].out_channels == 2
        assert repaired[3].out_channels == 3
        lost = (bare(INPUTS) - wanted).square().mean()
        assert lost > 0.01 * wanted.var()
        # the pull towards the old weights, a hundredth of the inputs' mean square, leaves a little
        assert (repaired(INPUTS) - wanted).square().mean() < 0.05 * lost


def test_the_norm_behind_a_layer_without_bias_takes_the_mean() -> None:
    """On the samples every repaired channel has the mean that the same channel had before."""
    model = residual().eval()
    reference = deepcopy(model)
    found = pruned(model, importance="l1", repair="least_squares")
    with torch.no_grad():
        kept = [
            int((reference.stem.weight.flatten(1) - row).abs().sum(1).argmin()) for row in found.stem.weight.flatten(1)
        ]
        features = torch.relu(found.norm0(found.stem(INPUTS)))
        before = torch.relu(reference.norm0(reference.stem(INPUTS)))
        mean = found.norm1(found.conv1(features)).mean((0, 2, 3))
        expected = reference.norm1(reference.conv1(before)).mean((0, 2, 3))[kept]
    assert torch.allclose(mean, expected, atol=1e-3)


def test_a_residual_model_answers_more_like_before() -> None:
    bare = pruned(residual(), importance="l2")
    calibrated = stage_of({"kind": "recalibrate_norms"}).apply(deepcopy(bare), bench_of(bare, INPUTS)).eval()
    repaired = pruned(residual(), importance="l2", repair="least_squares")
    with torch.no_grad():
        wanted = residual().eval()(INPUTS)
        error = (repaired(INPUTS) - wanted).square().mean()
        assert error < 0.5 * (bare(INPUTS) - wanted).square().mean()
        assert error < 0.5 * (calibrated(INPUTS) - wanted).square().mean()
    assert stale_norms(bare) != ()
    assert stale_norms(repaired) == ()  # they fit, so that nothing recalibrates them later


def test_labels_have_no_part_in_it() -> None:
    def of(targets: Tensor) -> Tensor:
        data = TensorDataset(INPUTS, targets)
        loss, metrics = nn.CrossEntropyLoss(), {"accuracy": Metric(accuracy)}
        model = residual()
        bench = bench_of(model, INPUTS)
        task = Task(model, data, data, data, loss, metrics, INPUTS[:1])
        object.__setattr__(bench, "task", task)
        stage = Prune(sparsity=0.5, repair="least_squares", repair_samples=80)
        return cast(Tensor, stage.apply(model, bench).eval()(INPUTS[:8]).detach())

    assert torch.equal(of(torch.zeros(80).long()), of(torch.arange(80) % 10))


def test_settings_and_needs() -> None:
    assert Prune(sparsity=0.5, repair="least_squares").words() == (
        "prune 50% of channels by l1, repaired by least squares"
    )
    with pytest.raises(WrongInput, match="repair_samples"):
        stage_of({"kind": "prune", "sparsity": 0.5, "repair_samples": 5})
    data = TensorDataset(images(9), torch.zeros(9).long())
    task = Task(nn.Identity, data, data, data, nn.functional.mse_loss, {}, images(1))
    assert "at least 32 of them; the task's training split has 9" in str(
        Prune(sparsity=0.5, repair="least_squares").unmet(task)
    )
    assert Prune(sparsity=0.5).unmet(task) is None
    assert Prune(sparsity=0.0, repair="least_squares").unmet(task) is None
    assert Prune(sparsity=0.5, repair="least_squares").norms == "kept"
