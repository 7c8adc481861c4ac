"""Low-rank adapters of the user's own: trained alone, and merged into the weights in the delivered file."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from paretta.pipelines.bench import Bench
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stage_of
from paretta.pipelines.tasks.digits import make
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit


class LowRank(nn.Module):
    """Adds a product of rank `rank` to a weight [out, in]; zero before training."""

    def __init__(self, weight: Tensor, rank: int = 2) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1]) / 10)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted weight."""
        return weight + self.up @ self.down


def with_adapters(model: nn.Module) -> nn.Module:
    model.requires_grad_(False)
    for layer in list(model.modules()):
        if isinstance(layer, nn.Linear):
            parametrize.register_parametrization(layer, "weight", LowRank(layer.weight))
    return model


@pytest.mark.parametrize("then", [None, {"kind": "quantize", "bits": 8}])
def test_adapters_are_trained_alone_and_merged_in_the_delivered_file(then: dict[str, object] | None) -> None:
    torch.manual_seed(0)
    task = make()
    plain = task.new_model()
    frozen = {name: value.clone() for name, value in plain.state_dict().items() if "running" not in name}
    model = with_adapters(plain)
    bench = Bench(task, Ranks.alone(), seed=0)
    fit(model, bench, TrainSettings(epochs=1, lr=0.05))
    kept = {name.replace("parametrizations.weight.original", "weight"): v for name, v in model.state_dict().items()}
    for name, value in frozen.items():
        if "num_batches" not in name:
            assert torch.equal(kept[name], value), name
    adapters = [part for part in model.modules() if isinstance(part, LowRank)]
    assert adapters
    assert all(part.up.abs().max() > 0 for part in adapters)
    if then is not None:
        model = stage_of(then).apply(model, bench)
    content = to_bytes(model, task.example_input)
    images = torch.stack([task.validation[index][0] for index in range(16)])
    (answers,) = onnxruntime.InferenceSession(content).run(None, {"input": images.numpy()})
    with torch.no_grad():
        expected = model.eval()(images).numpy()
    tolerance = 1e-4 if then is None else 0.02  # a sum that lies between two whole numbers is rounded either way
    np.testing.assert_allclose(answers, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    if then is None:
        for layer in [layer for layer in model.modules() if isinstance(layer, nn.Linear)]:
            parametrize.remove_parametrizations(layer, "weight")
        assert content == to_bytes(model, task.example_input)
