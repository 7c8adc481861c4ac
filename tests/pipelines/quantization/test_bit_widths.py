"""Allocated bit widths stay within their budget and are optimal; estimates agree with algebra."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized_models import bench_of, chain, images, residual, widths
from torch import nn
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.quantization.bit_allocation import NoAllocation, allocate
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.sensitivities import Subject
from paretta.pipelines.sensitivities.fisher import squared_gradients
from paretta.pipelines.sensitivities.hessian import hessian_traces
from paretta.pipelines.stage import stage_of
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import WrongInput

INPUTS = images(64)


def best_of_all(costs: np.ndarray, sizes: np.ndarray, budget: float) -> float:
    choices: Sequence[tuple[int, ...]] = list(product(range(costs.shape[1]), repeat=len(costs)))
    rows = range(len(costs))
    kept = [choice for choice in choices if sizes[rows, choice].sum() <= budget]
    return float(min(costs[rows, choice].sum() for choice in kept))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 1.0), spread=st.integers(0, 5))
def test_an_allocation_is_the_best_of_all_there_are(seed: int, share: float, spread: int) -> None:
    random = np.random.default_rng(seed)
    sizes = np.outer(random.integers(1, 5000, 4), [2, 3, 4, 8]).astype(float)
    scale = 10.0 ** random.uniform(-spread, spread, (4, 1))
    costs = np.sort(random.random((4, 4)) * scale, axis=1)[:, ::-1].copy()
    low, high = sizes[:, 0].sum(), sizes[:, -1].sum()
    budget = low + share * (high - low)
    chosen = allocate(costs, sizes, budget)
    assert sizes[range(4), chosen].sum() <= budget * (1 + 1e-6)
    assert costs[range(4), chosen].sum() == pytest.approx(best_of_all(costs, sizes, budget * (1 + 1e-9)), rel=1e-4)


def test_no_allocation_fits_too_small_a_budget() -> None:
    with pytest.raises(NoAllocation):
        allocate(np.ones((2, 2)), np.array([[2.0, 4.0], [2.0, 4.0]]), 3.9)


def quantized_within(budget: dict[str, object], model: nn.Module) -> nn.Module:
    stage = stage_of({"kind": "quantize", "bits": budget, "calibration_samples": 64})  # type: ignore[dict-item]
    return stage.apply(model, bench_of(model, INPUTS)).eval()


@pytest.mark.usefixtures("full_range")
@pytest.mark.parametrize("average", [2.0, 3.3, 5.0, 8.0])
def test_the_average_is_kept_and_used(average: float) -> None:
    found = widths(quantized_within({"average": average}, chain()))
    model = chain()
    counts = {name: model.get_submodule(name).weight.numel() for name in found}
    mean = sum(found[name] * counts[name] for name in found) / sum(counts.values())
    assert set(found) == {"0", "2", "4", "7", "9", "11"}
    assert average - 0.6 < mean <= average + 1e-6


def test_the_layer_that_matters_gets_the_bits() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 32), nn.Linear(32, 32), nn.Linear(32, 10))
    with torch.no_grad():
        model[2].weight.copy_(torch.eye(32) * 1e-4)  # what it passes on is next to nothing
        model[3].weight.mul_(1e-4)
    found = widths(quantized_within({"average": 4.0, "sensitivity": "error"}, model))
    assert found["1"] > found["3"]


def test_a_size_is_kept_by_the_file() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 40), nn.ReLU(), nn.Linear(40, 10))
    model = quantized_within({"at_most": "4kB", "sensitivity": "error"}, model)
    assert 3200 < len(to_bytes(model, INPUTS[:1])) <= 4000
    with pytest.raises(WrongInput, match=r"the file takes .* even with 2 bits everywhere; got '1kB'; raise it"):
        quantized_within({"at_most": "1kB", "sensitivity": "error"}, nn.Sequential(nn.Flatten(), nn.Linear(144, 40)))


@pytest.mark.parametrize(
    ("budget", "rule"),
    [
        ({"average": 1.5}, "`average` must be greater than or equal to 2"),
        ({"average": 9}, "`average` must be less than or equal to 8"),
        ({"average": 4, "at_most": "5kB"}, "give either `average` or `at_most`"),
        ({"sensitivity": "kl"}, "give either `average` or `at_most`"),
        ({"at_most": "5ms"}, "must be a size such as 50kB"),
        ({"average": 4, "sensitivity": "fischer"}, "did you mean 'fisher'"),
        ({"average": 4, "sensitivty": "fisher"}, "did you mean 'sensitivity'"),
    ],
)
def test_a_wrong_budget_is_refused_with_its_rule(budget: dict[str, object], rule: str) -> None:
    with pytest.raises(WrongInput, match=rule):
        stage_of({"kind": "quantize", "bits": budget})  # type: ignore[dict-item]


def test_a_budget_survives_its_document_and_has_words() -> None:
    stage = stage_of({"kind": "quantize", "bits": {"average": 4.25}})
    assert stage_of(stage.model_dump(mode="json")) == stage
    assert stage.words() == "quantize to 4.25 bits on average by fisher"


def test_what_stays_in_float_takes_no_part_in_the_average() -> None:
    assert set(widths(quantized_within({"average": 6.0, "sensitivity": "error"}, residual()))) == {
        "stem",
        "conv1",
        "depthwise",
        "pointwise",
        "head",
    }


def squares_bench(inputs: torch.Tensor, targets: torch.Tensor, model: nn.Module) -> Bench:
    data = TensorDataset(inputs, targets)
    metrics = {"error": Metric(lambda outputs, targets: (outputs - targets).square().sum(1), goal="min")}
    task = Task(model, data, data, data, nn.MSELoss(), metrics, inputs[:1])  # type: ignore[arg-type]
    return Bench(task=task, ranks=Ranks.alone(), seed=3)


def test_curvature_agrees_with_algebra() -> None:
    """The loss is the mean of (w x - t)^2: its gradient is 2 (w x - t) x, its Hessian 2 mean(x x^T)."""
    torch.manual_seed(0)
    inputs, targets, model = torch.eye(5) * torch.arange(1.0, 6.0), torch.randn(5, 1), nn.Linear(5, 1, bias=False)
    subject = Subject(nn.Sequential(model), ("0",), lambda _, weight, __: weight, num_samples=5)
    bench = squares_bench(inputs, targets, model)
    gradients = 2 * (model(inputs) - targets).detach() * inputs
    torch.testing.assert_close(squared_gradients(subject, bench)[0], gradients.square().mean(0, keepdim=True))
    # with a diagonal Hessian every probe of signs gives the trace exactly
    assert float(hessian_traces(subject, bench, probes=1)) == pytest.approx(2 * (1 + 4 + 9 + 16 + 25) / 5)
