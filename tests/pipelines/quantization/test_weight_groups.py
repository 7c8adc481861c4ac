"""Groups of weights have the steps that they would have as rows of their own, and are asked for as widths are."""

import pytest
import torch
from quantized_models import bench_of, chain, images
from torch import nn

from paretta.pipelines.quantization.fake_quantize import weight_quantizer
from paretta.pipelines.quantization.layer_facts import layer_facts
from paretta.pipelines.quantizers import quantizer_of
from paretta.pipelines.stage import stage_of
from paretta.pipelines.stages.quantize import Quantize
from paretta.search_spaces.errors import WrongInput

WEIGHT = torch.randn(5, 40, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.1, 3, 40)


@pytest.mark.parametrize("name", ["symmetric", "affine", "power_of_two"])
def test_a_group_is_fitted_as_a_row_of_its_own(name: str) -> None:
    grid = quantizer_of(name, bits=3, axis=0, range="mse", group=16).fit(WEIGHT)
    assert grid.scale.shape == (5, 3)
    for start in range(0, 40, 16):  # the last group has 8
        part = WEIGHT[:, start : start + 16]
        alone = quantizer_of(name, bits=3, axis=0, range="mse").fit(part)
        assert torch.equal(grid.nearest(WEIGHT)[:, start : start + 16], alone.nearest(part))


def test_groups_follow_local_ranges_that_rows_cannot() -> None:
    errors = [
        float(
            (
                quantizer_of("symmetric", bits=4, axis=0, range="mse", group=group).fit(WEIGHT).nearest(WEIGHT) - WEIGHT
            ).norm()
        )
        for group in (8, 16, None)
    ]
    assert errors == sorted(errors)
    assert errors[0] < 0.8 * errors[-1]


@pytest.mark.parametrize(
    ("group", "rule"),
    [
        (48, "must be one of 16, 32, 64, 128, 256, or null; got 48"),
        (True, "must be one of 16, 32, 64, 128, 256, or null"),
        ("32", "must be one of 16, 32, 64, 128, 256, or null"),
        ({}, "needs at least one pattern"),
        ({"head": 32, "*": 7}, "each pattern's group must be one of 16"),
    ],
)
def test_other_sizes_are_refused(group: object, rule: str) -> None:
    with pytest.raises(WrongInput, match=rule):
        stage_of({"kind": "quantize", "group": group})  # type: ignore[dict-item]


def test_groups_are_parts_of_rows_with_a_step_each() -> None:
    with pytest.raises(WrongInput, match="leave out `granularity: tensor`"):
        stage_of({"kind": "quantize", "group": 32, "granularity": "tensor"})


def test_patterns_choose_the_layers_and_convolutions_are_noted() -> None:
    bench = bench_of(chain(), images(32))
    model = Quantize.model_validate({"bits": 4, "group": {"9": 64, "0": 16, "*": None}}).apply(chain(), bench).eval()
    groups = {name: facts.group for name, facts in layer_facts(model, images(1)).items()}
    assert groups == {"0": None, "2": None, "4": None, "7": None, "9": 64, "11": None}
    noted = [(note.layers, note.reason) for note in bench.notes if "groups" in note.reason]
    assert noted == [(("0",), "keeps a step for each channel: only linear layers and embeddings have groups")]
    with pytest.raises(WrongInput, match="no layer is called 'hed'"):
        Quantize.model_validate({"group": {"hed": 32, "*": None}}).apply(chain(), bench_of(chain(), images(8)))


def test_words_name_the_groups() -> None:
    assert Quantize(bits=4, group=32).words() == "quantize to 4 bits in groups of 32"
    stage = Quantize.model_validate({"bits": 3, "group": {"fc": 16, "*": None}, "compute": "packed"})
    assert stage.words() == "quantize to 3 bits in groups (fc: 16, *: none), packed"


def test_steps_of_groups_are_learned() -> None:
    layer = nn.Sequential(nn.Linear(40, 3))
    model = Quantize(bits=3, group=16).apply(layer, bench_of(layer, torch.randn(8, 40))).train()
    quantizer = weight_quantizer(model[0])
    assert quantizer is not None
    optimiser, target = torch.optim.Adam(model.parameters(), 0.05), torch.randn(3, 40)
    before, losses = quantizer.scale.detach().clone(), []
    for _ in range(40):
        optimiser.zero_grad()
        loss = (model[0].weight - target).square().mean()
        loss.backward()
        losses.append(loss.item())
        optimiser.step()
    assert (quantizer.scale != before).all()
    assert losses[-1] < 0.9 * losses[0]
    assert quantizer.steps().shape == (3, 3)
