"""An export that skips torch's decomposition where none is needed gives the graph that it has with it."""

from collections import Counter
from contextlib import nullcontext

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from paretta.pipelines.export.to_onnx import to_onnx
from paretta.pipelines.model import torch_private


class Writes(nn.Module):
    """Adds to what it has already changed."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, c]; `x` is [n, c]."""
        y = x * 2
        return nn.functional.relu_(y) + y


class FlattensTwice(nn.Module):
    """Reads one tensor through two flattens."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, 8]; `x` is [n, 2, 2, 2]."""
        return x.flatten(1) * 2 + x.flatten(2).flatten(1).flatten(1)


POOLED = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
NETS = {
    "pooled": (POOLED, torch.rand(1, 3, 8, 8), True),
    "flattened twice": (FlattensTwice(), torch.rand(1, 2, 2, 2), True),
    "flattened flat": (nn.Sequential(nn.Linear(5, 3), nn.Flatten()), torch.randn(1, 5), True),
    "pooled to 2 x 2": (nn.AdaptiveAvgPool2d(2), torch.rand(1, 3, 8, 8), False),
    "writes in place": (Writes(), torch.randn(1, 5), False),
    "norm alone": (nn.Sequential(nn.ReLU(), nn.BatchNorm1d(5)), torch.randn(1, 5), False),
}


@pytest.mark.parametrize("name", NETS)
def test_the_graph_is_that_of_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, example, needs_none = NETS[name]
    decomposed, torchs = [], torch_private._decomposer()
    monkeypatch.setattr(torch_private, "_decomposer", lambda: lambda *given: decomposed.append(given) or torchs(*given))
    ours = to_onnx(net, example)
    assert bool(decomposed) is not needs_none
    monkeypatch.setattr("paretta.pipelines.export.to_onnx.lean_exporter", nullcontext)
    theirs = to_onnx(net, example)
    assert Counter(node.op_type for node in ours.graph.node) == Counter(node.op_type for node in theirs.graph.node)
    sessions = [ort.InferenceSession(graph.SerializeToString()) for graph in (ours, theirs)]
    np.testing.assert_array_equal(*(session.run(None, {"input": example.numpy()})[0] for session in sessions))
