"""Steps add up to the sparsity that was asked for, and a step that costs too much is undone."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.model.weights import weights_of
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stage_of, stages_of
from paretta.pipelines.stages.iterate import Iterate
from paretta.pipelines.stages.train import Train
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.tasks.digits import correct
from paretta.pipelines.training.evaluate import mean_loss
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan


def net() -> nn.Module:
    with seeded(0):
        return nn.Sequential(nn.Linear(6, 100), nn.ReLU(), nn.Linear(100, 3))


@pytest.fixture(scope="module")
def bench() -> Bench:
    inputs = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(inputs, inputs[:, :3].argmax(1))
    metrics = {"accuracy": Metric(correct)}
    return Bench(Task(net, data, data, data, functional.cross_entropy, metrics, torch.zeros(1, 6)), Ranks.alone())


@pytest.mark.parametrize("curve", ["linear", "cubic"])
@pytest.mark.parametrize("prune", ["prune", "sparsify"])
def test_the_steps_lead_to_the_whole(bench: Bench, curve: str, prune: str) -> None:
    stage = stage_of({"kind": "iterate", "prune": {"kind": prune, "sparsity": 0.8}, "steps": 4, "curve": curve})
    model = stage.apply(net(), bench)
    if prune == "prune":
        assert model[0].out_features == pytest.approx(20, abs=2)
    else:
        assert [float((weight.values == 0).float().mean()) for weight in weights_of(model)] == pytest.approx([0.8] * 2)


@pytest.mark.parametrize(("max_rise", "expected"), [(None, [77, 54, 30]), (100.0, [75, 55, 30])])
def test_widths_are_rounded_at_the_end_or_wherever_it_may_end(
    bench: Bench, max_rise: float | None, expected: list[int]
) -> None:
    widths: list[int] = []
    trains = Train.apply

    class Watched(Train):
        def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
            widths.append(model[0].out_features)
            return trains(self, model, bench)

    prune = {"kind": "prune", "sparsity": 0.7, "round_to": 5}
    Iterate(prune=prune, retrain=Watched(), steps=3, curve="linear", max_rise=max_rise).apply(net(), bench)
    assert widths == expected


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(
    ("width", "settings"),
    [(32, {"sparsity": 0.6, "round_to": 8}), (4, {"sparsity": 0.5}), (30, {"sparsity": 0.33, "round_to": 4})],
)
def test_widths_end_where_pruning_at_once_puts_them(width: int, settings: dict[str, object], scope: str) -> None:
    def made() -> nn.Module:
        with seeded(0):
            return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))

    data = TensorDataset(torch.randn(8, 6), torch.arange(8) % 3)
    task = Task(made, data, data, data, functional.cross_entropy, {"accuracy": Metric(correct)}, torch.zeros(1, 6))
    bench, prune = Bench(task, Ranks.alone()), {"kind": "prune", "scope": scope, **settings}
    at_once = stage_of(prune).apply(made(), bench)[0].out_features
    assert Iterate(prune=prune, steps=4).apply(made(), bench)[0].out_features == at_once < width


def test_a_step_too_far_is_rolled_back(bench: Bench) -> None:
    model = Train(epochs=40, lr=0.02, batch_size=40).apply(net(), bench)
    before = mean_loss(model, bench.task, bench.ranks)
    stage = Iterate(
        prune={"kind": "prune", "sparsity": 0.99, "importance": "taylor"}, steps=8, curve="linear", max_rise=0.1
    )
    kept = stage.apply(model, bench)
    assert mean_loss(kept, bench.task, bench.ranks) <= before + 0.1
    assert 1 < kept[0].out_features < 100
    assert (100 - kept[0].out_features) % 12 <= 1, "a whole number of steps was kept"


def test_a_first_step_too_far_leaves_the_model_as_it_was(bench: Bench) -> None:
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kept = Iterate(prune={"kind": "sparsify", "sparsity": 0.99}, steps=1, max_rise=0.0).apply(model, bench)
    assert all(torch.equal(kept.state_dict()[name], tensor) for name, tensor in before.items())


def test_its_sketch_leaves_the_same_structure(bench: Bench) -> None:
    stage = Iterate(prune={"kind": "prune", "sparsity": 0.7}, retrain={"kind": "train"}, steps=3)
    assert stage.shape == "settled"
    assert stage.sketch().apply(net(), bench)[0].out_features == stage.apply(net(), bench)[0].out_features
    assert Iterate(prune={"kind": "prune", "sparsity": 0.7}, max_rise=0.1).shape == "chosen by value"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"prune": {"kind": "train"}}, "must be a stage with a `sparsity` that is a share"),
        ({"prune": {"kind": "sparsify", "sparsity": "2:4"}}, "must be a stage with a `sparsity` that is a share"),
        ({"prune": {"kind": "prun", "sparsity": 0.5}}, "did you mean 'prune'"),
        ({"prune": {"kind": "prune", "sparsity": 2}}, "sparsity: must be less than 1"),
        (
            {"prune": {"kind": "prune", "sparsity": 0.5}, "retrain": {"kind": "quantize"}},
            "`retrain` must be a stage that only trains",
        ),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(WrongInput, match=told):
        stage_of({"kind": "iterate", **settings})


def test_what_holds_inside_holds_for_it() -> None:
    inner = {"kind": "iterate", "prune": {"kind": "prune", "sparsity": 0.5, "round_to": 2}}
    with pytest.raises(WrongInput, match="cannot remove channels after `sparsify`"):
        stages_of(Plan(stages=({"kind": "sparsify", "sparsity": 0.5}, inner)))
    with pytest.raises(WrongInput, match="`round_to: 4`"):
        stages_of(Plan(stages=(inner, {"kind": "sparsify", "sparsity": "2:4"})))
