"""Rounding by second order and learned rounding, against every possible rounding of small layers."""

from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import cast

import pytest
import torch
from quantized_models import accuracy, bench_of, chain, images, residual, widths
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench
from paretta.pipelines.model.masks import attach_mask
from paretta.pipelines.post_training.gather import batches, gathered
from paretta.pipelines.post_training.layer_objective import LayerObjective
from paretta.pipelines.post_training.learned_rounding import learned_rounding
from paretta.pipelines.post_training.second_order import descended, second_order
from paretta.pipelines.quantization.fake_quantize import weight_codes, weight_quantizer
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.pipelines.stage import stage_of
from paretta.pipelines.stages.quantize import Quantize
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan

STEP = 0.4


def nearest(values: Tensor, _: slice) -> Tensor:
    """The grid -1, 0, 1 in steps of `STEP`."""
    return (values / STEP).round().clamp(-1, 1) * STEP


def correlated(seed: int, *, width: int = 6, groups: int = 2, rows: int = 3) -> tuple[LayerObjective, Tensor]:
    """Return the objective of a layer on correlated inputs, and its weight."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(groups, width, width, generator=generator, dtype=torch.float64)
    x = torch.randn(groups, 200, width, generator=generator, dtype=torch.float64) @ mixing
    weight = torch.randn(groups, rows, width, generator=generator, dtype=torch.float64) * STEP
    y = x @ weight.mT
    objective = LayerObjective.of(x.mT @ x / 200, y.mT @ x / 200, y.square().mean(1), weight)
    return objective, weight


def brute_force(objective: LayerObjective) -> Tensor:
    """Return the lowest objective of each row over all grid points."""
    every = torch.tensor(list(product((-STEP, 0.0, STEP), repeat=objective.linear.shape[-1])), dtype=torch.float64)
    losses = ((every @ objective.curvature) * every).sum(-1)[:, None] - 2 * objective.linear @ every.T
    return losses.amin(-1) + objective.constant


@pytest.mark.parametrize("seed", range(6))
def test_second_order_lies_between_the_optimum_and_the_nearest_rounding(seed: int) -> None:
    objective, weight = correlated(seed)
    best, simple = brute_force(objective), objective.losses(nearest(weight, slice(None)))
    found = objective.losses(second_order(objective, weight, nearest))
    assert bool((found >= best - 1e-9).all())
    assert bool((found <= simple + 1e-9).all())
    # of what nearest rounding loses against the optimum, at most a tenth is left
    assert float((found - best).sum()) <= 0.1 * float((simple - best).sum())


def test_on_uncorrelated_inputs_the_nearest_grid_point_is_the_optimum() -> None:
    weight = torch.tensor([[[0.3, -0.1, 0.5, -0.7]]], dtype=torch.float64)
    eye = torch.eye(4, dtype=torch.float64)[None]
    objective = LayerObjective.of(eye, weight, weight.square().sum(-1), weight)
    assert torch.equal(second_order(objective, weight, nearest), nearest(weight, slice(None)))


def test_no_single_change_improves_what_second_order_found() -> None:
    objective, weight = correlated(11)
    found = second_order(objective, weight, nearest)
    losses = objective.losses(found)
    for column in range(weight.shape[-1]):
        for value in (-STEP, 0.0, STEP):
            other = found.clone()
            other[..., column] = value
            assert bool((objective.losses(other) >= losses - 1e-9).all())
    assert torch.equal(descended(objective, found, nearest), found)


@pytest.mark.parametrize("seed", range(6))
def test_learned_rounding_is_never_worse_than_nearest_and_stays_beside_the_weight(seed: int) -> None:
    objective, weight = correlated(seed)
    low, high = (weight / STEP).floor().clamp(-1, 1) * STEP, (weight / STEP).ceil().clamp(-1, 1) * STEP
    simple = nearest(weight, slice(None))
    found = learned_rounding(objective, low, high, simple)
    assert bool(((found == low) | (found == high)).all())
    assert bool((objective.losses(found) <= objective.losses(simple)).all())
    ways = torch.tensor(list(product((0.0, 1.0), repeat=weight.shape[-1])), dtype=torch.float64)
    best = torch.stack([objective.losses(low + way * (high - low)) for way in ways]).amin(0)
    lost, left = objective.losses(simple) - best, objective.losses(found) - best
    assert bool((left >= -1e-9).all())
    assert float(left.sum()) <= 0.5 * float(lost.sum())  # of what nearest rounding loses against the best of all ways


def test_the_objective_is_the_mean_squared_error_of_the_layer() -> None:
    generator = torch.Generator().manual_seed(3)
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Tanh(), layer)
    inputs = images(40, size=9)
    objective = gathered(model, model, "2", [inputs[:25], inputs[25:]])
    weight = torch.randn(layer.weight.shape, generator=generator)
    with torch.no_grad():
        wanted = model(inputs).double()
        hidden = model[:2](inputs).double()
        answers = nn.functional.conv2d(hidden, weight.double(), None, 2, 1, 2, 2)
        error = (wanted - answers).movedim(1, 0).flatten(1)
        variance = error.var(1, correction=0)  # of the best bias the mean error is none
        centred = nn.functional.unfold(hidden, 3, 2, 1, 2).unflatten(1, (2, 18)).movedim(1, 0).movedim(2, 1).flatten(2)
        damping = 0.01 * centred.var(2, correction=0).mean(1).repeat_interleave(3)
        distance = (weight - layer.weight).double().flatten(1).square().sum(1)
        grouped = weight.double().flatten(1).unflatten(0, (2, 3))
    assert torch.allclose(objective.losses(grouped).flatten(), variance + damping * distance, rtol=1e-4)
    assert torch.allclose(objective.bias_for(grouped).flatten(), error.mean(1), atol=1e-5)


def test_the_best_weight_is_least_squares() -> None:
    model = nn.Sequential(nn.Linear(5, 3))
    inputs = torch.randn(300, 5, generator=torch.Generator().manual_seed(1))
    other = nn.Sequential(nn.Linear(5, 3))
    objective = gathered(model, other, "0", [inputs])
    found = objective.best_weight()[0].float()
    assert torch.allclose(found, other[0].weight.detach(), atol=1e-4)
    assert torch.allclose(objective.bias_for(found.double()[None])[0].float(), other[0].bias.detach(), atol=1e-4)


def tuned(model: nn.Module, inputs: Tensor, **settings: object) -> tuple[nn.Module, Bench]:
    bench = bench_of(model, inputs)
    stage = Quantize.model_validate({"calibration_samples": 64, "activation_bits": 32, **settings})
    return stage.apply(model, bench).eval(), bench


@pytest.mark.parametrize("rounding", ["second_order", "learned"])
@pytest.mark.parametrize("bits", [2, 4])
def test_a_rounded_model_answers_more_like_the_original(rounding: str, bits: int) -> None:
    inputs = images(64)
    with torch.no_grad():
        wanted = chain().eval()(inputs)
        simple, _ = tuned(chain(), inputs, bits=bits, bias_correction=True)
        clever, _ = tuned(chain(), inputs, bits=bits, bias_correction=True, rounding=rounding)
        assert (clever(inputs) - wanted).square().mean() < 0.8 * (simple(inputs) - wanted).square().mean()
    assert widths(clever) == widths(simple)
    for name in widths(clever):
        layer, quantizer = clever.get_submodule(name), weight_quantizer(clever.get_submodule(name))
        assert quantizer is not None
        assert torch.equal(quantizer.grid().values(weight_codes(layer)), layer.weight)


@pytest.mark.parametrize(
    ("weights", "rounding", "granularity"),
    [
        ("affine", "second_order", "channel"),
        ("affine", "learned", "tensor"),
        ("codebook", "second_order", "tensor"),
        ("codebook", "learned", "channel"),
        ("power_of_two", "second_order", "channel"),
    ],
)
def test_any_grid_can_be_rounded_to(weights: str, rounding: str, granularity: str) -> None:
    inputs = images(48)
    settings = {"bits": 3, "weights": weights, "granularity": granularity, "bias_correction": True}
    with torch.no_grad():
        wanted = chain().eval()(inputs)
        simple, _ = tuned(chain(), inputs, **settings)
        clever, _ = tuned(chain(), inputs, rounding=rounding, **settings)
        assert (clever(inputs) - wanted).square().mean() < (simple(inputs) - wanted).square().mean()
    for name in widths(clever):
        quantizer = weight_quantizer(clever.get_submodule(name))
        assert quantizer is not None
        assert torch.equal(
            quantizer.grid().values(weight_codes(clever.get_submodule(name))), clever.get_submodule(name).weight
        )


@pytest.mark.parametrize("rounding", ["second_order", "learned"])
@pytest.mark.parametrize("weights", ["symmetric", "affine", "codebook"])
def test_groups_are_rounded_each_in_its_steps(weights: str, rounding: str) -> None:
    inputs = torch.randn(256, 40, generator=torch.Generator().manual_seed(0)).cumsum(1)
    torch.manual_seed(4)
    plain = nn.Sequential(nn.Linear(40, 6))
    expected, gaps = plain(inputs), {}
    for way in ("nearest", rounding):
        stage = Quantize.model_validate(
            {"bits": 3, "group": 16, "weights": weights, "rounding": way, "compute": "float"}
        )
        model = stage.apply(deepcopy(plain), bench_of(plain, inputs)).eval()
        quantizer = weight_quantizer(model[0])
        assert quantizer is not None
        assert quantizer.scale.shape == (6, 3)
        codes = weight_codes(model[0])
        assert torch.allclose(quantizer.grid().values(codes), model[0].weight)
        gaps[way] = (model(inputs) - expected).square().mean().item()
    assert gaps[rounding] < 0.7 * gaps["nearest"]


def test_masked_weights_stay_zero() -> None:
    inputs = images(48)
    model = chain()
    keep = torch.rand(model[7].weight.shape, generator=torch.Generator().manual_seed(2)) > 0.5
    attach_mask(model[7], keep)
    clever, _ = tuned(model, inputs, bits=3, rounding="second_order")
    weight = cast(Tensor, clever.get_submodule("7").weight)
    assert bool((weight[~keep] == 0).all())
    assert bool((weight[keep] != 0).any())


def test_corrected_biases_give_the_mean_outputs_of_before() -> None:
    inputs = images(64)
    with torch.no_grad():
        wanted = chain().eval()(inputs).mean(0)
        simple, _ = tuned(chain(), inputs, bits=2)
        corrected, _ = tuned(chain(), inputs, bits=2, bias_correction=True)
        assert (simple(inputs).mean(0) - wanted).abs().max() > 0.02
        assert (corrected(inputs).mean(0) - wanted).abs().max() < 1e-4


class Dead(nn.Sequential):
    """Its second layer reads zeros only."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 10))
        nn.init.constant_(self[1].bias, -1e4)


def test_a_layer_whose_inputs_never_vary_keeps_the_nearest_rounding_and_is_named() -> None:
    model, bench = tuned(Dead(), images(40), bits=4, rounding="second_order")
    assert [str(note) for note in bench.notes] == ["3 keeps its nearest rounding: its inputs never vary"]
    assert bool(torch.isfinite(model(images(4))).all())


def test_batches_depend_on_the_seed_alone() -> None:
    bench = bench_of(chain(), images(200))
    first, again, other = (batches(bench, 100, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))  # type: ignore[arg-type]
    assert not torch.equal(first[0], other[0])  # type: ignore[arg-type]


def test_batch_norms_are_folded_before_rounding() -> None:
    inputs = images(64)
    with torch.no_grad():
        wanted = residual().eval()(inputs)
        clever, _ = tuned(residual(), inputs, bits=4, rounding="second_order", bias_correction=True)
        simple, _ = tuned(residual(), inputs, bits=4)
        assert (clever(inputs) - wanted).square().mean() < 0.5 * (simple(inputs) - wanted).square().mean()


def test_an_unknown_rounding_is_refused_with_the_known_ones() -> None:
    with pytest.raises(WrongInput, match="second_order"):
        stage_of({"kind": "quantize", "rounding": "gptq"})


def task_with(count: int, calibration: int | None = None) -> Task:
    data = TensorDataset(images(count), torch.arange(count) % 10)
    given = None if calibration is None else TensorDataset(images(calibration))
    loss, metrics = nn.CrossEntropyLoss(), {"accuracy": Metric(accuracy)}
    return Task(chain(), data, data, data, loss, metrics, images(1), calibration=given)


@pytest.mark.parametrize(
    ("task", "settings", "told"),
    [
        (task_with(64, 0), {}, "the task's calibration split is empty: give Task(calibration=...)"),
        (task_with(64, 7), {"rounding": "learned"}, "at least 32 of them; the task's calibration split has 7"),
        (task_with(31), {"bias_correction": True}, "at least 32 of them; the task's training split has 31"),
        (task_with(64, 7), {}, None),
        (task_with(64, 0), {"activation_bits": 32}, None),
    ],
)
def test_too_few_samples_are_told_before_anything_is_computed(
    task: Task, settings: dict[str, object], told: str | None, tmp_path: Path
) -> None:
    stage = Quantize.model_validate(settings)
    assert stage.unmet(task) is None if told is None else told in str(stage.unmet(task))
    if told is not None:
        plan = Plan(stages=({"kind": "quantize", **settings},))  # type: ignore[dict-item]
        with pytest.raises(WrongInput, match=r"stages\[0\] \(quantize\): ") as error:
            run(plan, task, seed=0, ranks=Ranks.alone(), folder=tmp_path)
        assert told in str(error.value)
        assert not any(tmp_path.iterdir())


def test_fewer_samples_than_a_fit_needs_are_refused_where_they_are_set() -> None:
    with pytest.raises(WrongInput, match="rounding second_order needs `calibration_samples` of at least 32"):
        stage_of({"kind": "quantize", "rounding": "second_order", "calibration_samples": 31})
    assert Quantize(calibration_samples=1).calibration_samples == 1
