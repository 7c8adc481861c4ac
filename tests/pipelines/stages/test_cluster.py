"""Shared values stay few and zeros stay zeros, through training, other stages and the file."""

from itertools import permutations
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from quantized_models import bench_of, chain, images
from torch import nn

from paretta.pipelines.coding.container import decode_model, encode_model
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.kernels.ort_kernels import integer_kernels
from paretta.pipelines.model.masks import mask_of
from paretta.pipelines.quantization.weight_sharing import centroids_of, nearest_places, shared_values
from paretta.pipelines.stage import stage_of, stages_of
from paretta.pipelines.stages.cluster import Cluster
from paretta.pipelines.stages.train import Train
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan

INPUTS = images(64)


def applied(model: nn.Module, *documents: Document) -> nn.Module:
    for document in documents:
        model = stage_of(document).apply(model, bench_of(model, INPUTS))
    return model.eval()


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    kinds = nn.Conv2d, nn.Linear
    return {name: layer.weight.detach() for name, layer in model.named_modules() if isinstance(layer, kinds)}


def answers(exported: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": INPUTS.numpy()})[0]


def test_centroids_are_those_of_an_exhaustive_search() -> None:
    torch.manual_seed(0)
    values = torch.cat([torch.randn(40) * 0.1 - 2, torch.randn(40) * 0.1 + 1, torch.zeros(20)])
    grid = torch.linspace(-3, 3, 241)
    errors = torch.minimum((values[:, None] - grid).square(), values[:, None].square())
    best = torch.minimum(errors[:, :, None], errors[:, None, :]).sum(0).min()
    found = centroids_of(values, 3)
    table = torch.cat([torch.zeros(1), found])
    assert len(found) == 2
    assert (values - table[nearest_places(values, found).long()]).square().sum() <= best + 1e-4


@pytest.mark.parametrize("number", [2, 5, 256])
def test_there_are_few_values_and_training_moves_them(number: int) -> None:
    model = applied(chain(), {"kind": "cluster", "values": number})
    before = weights(model)
    assert all(len(weight.unique()) <= number for weight in before.values())
    Train(epochs=1, batch_size=64, lr=0.01).apply(model, bench_of(model, INPUTS))
    for name, weight in weights(model).items():
        assert len(weight.unique()) <= number
        assert torch.equal(weight == 0, before[name] == 0)
    assert any(not torch.equal(weight, before[name]) for name, weight in weights(model).items())


def test_one_table_may_serve_all_layers() -> None:
    model = applied(chain(), {"kind": "cluster", "values": 9, "scope": "global"})
    Train(epochs=1, batch_size=64, lr=0.01).apply(model, bench_of(model, INPUTS))
    assert len(torch.cat([weight.flatten() for weight in weights(model).values()]).unique()) <= 9
    held = [shared_values(layer) for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert held[0].centroids is held[1].centroids


def test_the_file_holds_places_and_tables_and_gives_the_same_bits(tmp_path: Path) -> None:
    model = applied(chain(), {"kind": "cluster", "values": 16})
    exported = to_bytes(model, INPUTS[:1])
    plain = to_bytes(chain(), INPUTS[:1])
    assert len(exported) < 0.35 * len(plain)
    # the same weights, stored as floats
    twin = chain()
    for name, weight in weights(model).items():
        twin.get_submodule(name).weight.data.copy_(weight)
    twin[9].weight.data += torch.arange(twin[9].weight.numel()).view_as(twin[9].weight) * 1e-12
    np.testing.assert_allclose(answers(exported), twin(INPUTS).detach().numpy(), rtol=1e-4, atol=1e-5)
    (tmp_path / "model.onnx").write_bytes(exported)
    assert not {"Gather", "Cast"} & set(integer_kernels(tmp_path / "model.onnx").kernels), "folded while loading"
    coded = encode_model(exported)
    assert decode_model(coded.content) == exported
    assert len(coded.content) < 0.85 * len(exported)


def test_clustered_weights_run_in_integers_and_their_codes_are_as_few(tmp_path: Path) -> None:
    quantize: Document = {"kind": "quantize", "bits": 8, "granularity": "tensor", "calibration_samples": 64}
    model = applied(chain(), {"kind": "cluster", "values": 8}, quantize)
    exported = to_bytes(model, INPUTS[:1])
    assert all(len(weight.unique()) <= 8 for weight in weights(model).values())
    assert len(exported) < 0.7 * len(to_bytes(applied(chain(), quantize), INPUTS[:1]))
    (tmp_path / "model.onnx").write_bytes(exported)
    assert integer_kernels(tmp_path / "model.onnx").details()["integer_weights_share"] == 1.0


TRAIN: Document = {"kind": "train", "epochs": 1, "batch_size": 64, "lr": 0.01}
STEPS: dict[str, Document] = {
    "sparsify": {"kind": "sparsify", "sparsity": 0.6},
    "cluster": {"kind": "cluster", "values": 7},
    "quantize": {"kind": "quantize", "bits": {"average": 4, "sensitivity": "fisher"}, "calibration_samples": 64},
}
ORDERS = [order for count in (2, 3) for order in permutations(STEPS, count)]


def refused(documents: list[Document]) -> bool:
    try:
        stages_of(Plan(stages=tuple(documents)))
    except WrongInput:
        return True
    return False


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_zeros_and_widths_survive_every_order_of_stages(order: tuple[str, ...]) -> None:
    """Channels removed first stay removed; a masked weight is zero after whatever follows, and in training."""
    documents = [document for name in order for document in (STEPS[name], TRAIN)]
    forbidden = {"cluster", "quantize"} <= set(order) and order.index("cluster") > order.index("quantize")
    assert refused(documents) == forbidden
    if forbidden:
        return
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 10))
    model = applied(model, {"kind": "prune", "sparsity": 0.5})
    for document in documents:
        model = applied(model, document)
        for layer in (model[1], model[3]):
            mask = mask_of(layer)
            assert mask is None or not layer.weight[~mask.keep].any()
    assert (model[1].out_features, model[3].in_features) == (8, 8)
    for layer in (model[1], model[3]):
        assert "sparsify" not in order or float((layer.weight == 0).float().mean()) >= 0.59
        assert "cluster" not in order or len(layer.weight.unique()) <= 7 * (8 if "quantize" in order else 1)


def test_wrong_numbers_of_values_are_refused() -> None:
    for values in (1, 257, "many", True):
        with pytest.raises(WrongInput, match="must be a whole number from 2 to 256"):
            stage_of({"kind": "cluster", "values": values})
    with pytest.raises(WrongInput, match="scope global needs one number"):
        stage_of({"kind": "cluster", "values": {"*": 4}, "scope": "global"})
    with pytest.raises(WrongInput, match="no layer is called 'conv"):
        applied(chain(), {"kind": "cluster", "values": {"conv*": 4}})
    assert Cluster(values=8).words() == "share 8 values"
