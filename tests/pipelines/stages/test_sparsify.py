"""Masks take the lowest scores, hold through everything that follows, and end as zeros in the delivered file."""

from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from quantized_models import bench_of, chain, images
from torch import Tensor, nn

from paretta.pipelines.export.to_onnx import to_onnx
from paretta.pipelines.model.masks import attach_mask, mask_of, n_of_m, sparsest, sparsest_of_all
from paretta.pipelines.model.weights import weights_of
from paretta.pipelines.quantization.fake_quantize import weight_codes
from paretta.pipelines.stage import stage_of, stages_of
from paretta.pipelines.stages.quantize import Quantize
from paretta.pipelines.stages.sparsify import Sparsify
from paretta.pipelines.stages.train import Train
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan


class Attention(nn.Module):
    """Images as 12 tokens of 12 values through one encoder layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.encoder = nn.TransformerEncoderLayer(12, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images[:, 0]).mean(1))


def zeros(model: nn.Module) -> dict[str, float]:
    return {weight.name: float((weight.values == 0).float().mean()) for weight in weights_of(model)}


@given(
    scores=st.lists(st.floats(0, 9, width=32), min_size=1, max_size=40),
    share=st.floats(0, 0.99),
)
def test_the_lowest_share_goes_and_one_stays(scores: list[float], share: float) -> None:
    keep = sparsest(torch.tensor(scores), share)
    dropped = [score for score, kept in zip(scores, keep.tolist(), strict=True) if not kept]
    kept = [score for score, stays in zip(scores, keep.tolist(), strict=True) if stays]
    assert len(dropped) in (int(len(scores) * share + 1e-6), len(scores) - 1)
    assert max(dropped, default=0.0) <= min(kept)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (3, 8)])
def test_every_group_keeps_its_best(n: int, m: int) -> None:
    scores = torch.rand(5, 16, 3, 2, generator=torch.Generator().manual_seed(0))
    keep = n_of_m(scores, n, m).numpy()
    for o, k, j, start in np.ndindex(5, 3, 2, 16 // m):
        group = slice(start * m, start * m + m)
        best = sorted(scores[o, group, k, j].tolist())[-n:]
        assert sorted(scores[o, group, k, j][torch.from_numpy(keep[o, group, k, j])].tolist()) == best


def test_layers_compete_but_none_is_emptied() -> None:
    strong, weak = torch.full((4, 4), 2.0), torch.linspace(0.1, 1.0, 16).view(4, 4)
    masks = sparsest_of_all([strong, weak], 0.5)
    assert masks[0].all()
    assert masks[1].nonzero().tolist() == [[3, 3]]


def test_conv_depthwise_and_linear_lose_what_was_asked() -> None:
    inputs = images(20)
    model = Sparsify(sparsity=0.75).apply(chain(), bench_of(chain(), inputs))
    for name, share in zeros(model).items():
        size = model.get_submodule(name).weight.numel()
        assert share == int(size * 0.75) / size


def test_each_pattern_has_its_own_amount() -> None:
    model = Sparsify(sparsity={"encoder.linear*": 0.5, "encoder.*": "1:4"}).apply(
        Attention(), bench_of(Attention(), images(20))
    )
    assert zeros(model) == {
        "encoder.self_attn.q_proj": 0.75,
        "encoder.self_attn.k_proj": 0.75,
        "encoder.self_attn.v_proj": 0.75,
        "encoder.self_attn.out_proj": 0.75,
        "encoder.linear1": 0.5,
        "encoder.linear2": 0.5,
        "head": 0.0,
    }


def test_layers_that_cannot_hold_the_pattern_are_named(caplog: pytest.LogCaptureFixture) -> None:
    model = Sparsify(sparsity="2:4").apply(chain(), bench_of(chain(), images(20)))
    assert {name for name, share in zeros(model).items() if share == 0.5} == {"7", "9", "11", "4"}
    assert "0 stays dense: its 1 input channels do not split into groups for 2:4" in caplog.text


STEPS: dict[str, Callable[[], Sparsify | Quantize | Train]] = {
    "sparsify": lambda: Sparsify(sparsity={"encoder.*": 0.8}),
    "quantize": lambda: Quantize(bits=3, calibration_samples=20),
    "train": lambda: Train(epochs=1, lr=0.01, batch_size=10, weight_decay=0.1),
}


@pytest.mark.parametrize(
    ("make", "order"), [*((chain, order) for order in permutations(STEPS)), (Attention, ("sparsify", "quantize"))]
)
def test_in_any_order_zeros_stay_zeros(make: Callable[[], nn.Module], order: Sequence[str]) -> None:
    bench = bench_of(make(), images(20))
    model, steps = make(), dict(STEPS)
    if make is chain:
        steps["sparsify"] = lambda: Sparsify(sparsity=0.8)
    dead: dict[str, Tensor] = {}
    for step in (*order, "train"):
        model = steps[step]().apply(model, bench)
        if step == "sparsify":
            masks = [(weight, mask_of(weight.module, weight.attribute)) for weight in weights_of(model)]
            dead = {weight.name: ~mask.keep for weight, mask in masks if mask is not None}
    assert len(dead) == 6
    for weight in weights_of(model):
        if weight.name in dead:
            assert float(dead[weight.name].float().mean()) > 0.7
            assert bool((weight.values[dead[weight.name]] == 0).all())
    if make is chain:
        assert bool((weight_codes(model[9])[dead["9"]] == 0).all())


@pytest.mark.parametrize("quantize", [False, True])
def test_the_runtime_finds_the_zeros_in_the_file(quantize: bool, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 10))
    bench = bench_of(model, images(20))
    model = Sparsify(sparsity=0.9).apply(model, bench)
    if quantize:
        model = Quantize(bits=8, calibration_samples=20).apply(model, bench)
    # however they are packed in the file, the optimised graph holds them as the kernels take them
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(to_onnx(model, images(1)).SerializeToString(), options)
    stored = [numpy_helper.to_array(item) for item in onnx.load(tmp_path / "optimised.onnx").graph.initializer]
    weights = sorted((array for array in stored if array.size in (144 * 64, 640)), key=np.size)
    assert [round(float((array == 0).mean()), 1) for array in weights] == [0.9, 0.9]


def test_a_second_mask_takes_nothing_back() -> None:
    layer = nn.Linear(4, 1)
    attach_mask(layer, torch.tensor([[True, False, True, True]]))
    attach_mask(layer, torch.tensor([[True, True, False, True]]))
    assert mask_of(layer).keep.tolist() == [[True, False, False, True]]
    assert (layer.weight != 0).tolist() == [[True, False, False, True]]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sparsity": 1.0}, "must be a share from 0 to below 1"),
        ({"sparsity": "4:2"}, "must be a share from 0 to below 1"),
        ({"sparsity": {"*": "2"}}, "must be a share from 0 to below 1"),
        ({"sparsity": 0.5, "importance": "cosine"}, "scores whole channels only; of single weights do: gradient"),
        ({"sparsity": "2:4", "scope": "global"}, "scope global needs one share"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(WrongInput, match=told):
        stage_of({"kind": "sparsify", **settings})


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ([{"kind": "sparsify", "sparsity": 0.5}, {"kind": "prune", "sparsity": 0.5}], "put `prune` before it"),
        ([{"kind": "quantize"}, {"kind": "prune", "sparsity": 0.5}], "cannot remove channels after `quantize`"),
        (
            [{"kind": "prune", "sparsity": 0.5, "round_to": 2}, {"kind": "sparsify", "sparsity": "2:4"}],
            "give the `prune` before it `round_to: 4`",
        ),
    ],
)
def test_stages_that_undo_each_other_are_refused(stages: list[dict[str, object]], told: str) -> None:
    with pytest.raises(WrongInput, match=told) as caught:
        stages_of(Plan(stages=tuple(stages)))
    assert str(caught.value).startswith("stages[1] (")
