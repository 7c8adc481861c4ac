"""The quantize stage refuses what it cannot do, calibrates repeatably and leaves a model that trains."""

import logging
from copy import deepcopy

import pytest
import torch
from quantized_models import bench_of, chain, images, quantized, residual, widths
from torch import Tensor, nn

from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.model.quantizable import survey
from paretta.pipelines.quantization.fake_quantize import is_quantized, weight_codes, weight_quantizer
from paretta.pipelines.quantization.layer_graph import LayerGraph
from paretta.pipelines.stage import stage_of
from paretta.pipelines.stages.quantize import Quantize
from paretta.search_spaces.errors import WrongInput


@pytest.mark.parametrize("bits", [1, 9, 0, -4, "four", 4.5, True, [4]])
def test_widths_outside_two_to_eight_are_refused_with_rule_and_mend(bits: object) -> None:
    with pytest.raises(WrongInput, match=r"must be a whole number from 2 to 8; got .*; give 2\.\.8 for all layers"):
        stage_of({"kind": "quantize", "bits": bits})  # type: ignore[dict-item]


@pytest.mark.parametrize("bits", [{"conv*": 4, "*": 9}, {"*": "four"}, {"*": None}])
def test_a_wrong_width_of_a_pattern_is_refused(bits: dict[str, object]) -> None:
    with pytest.raises(WrongInput, match="each pattern's bits must be a whole number from 2 to 8"):
        stage_of({"kind": "quantize", "bits": bits})  # type: ignore[dict-item]
    with pytest.raises(WrongInput, match="at least one pattern"):
        stage_of({"kind": "quantize", "bits": {}})


@pytest.mark.usefixtures("full_range")
def test_the_first_matching_pattern_wins_and_the_rest_stays_in_float() -> None:
    inputs = images(32)
    model = quantized(residual(), inputs, {"stem": 8, "conv*": 4, "?*wise": 3})
    assert widths(model) == {"stem": 8, "conv1": 4, "depthwise": 3, "pointwise": 3}
    assert not is_quantized(model.get_submodule("head"))
    model = quantized(residual(), inputs, {"conv1": 2, "*": 5})
    assert widths(model) == {"stem": 5, "conv1": 2, "depthwise": 5, "pointwise": 5, "head": 5}


def test_a_pattern_that_matches_nothing_is_an_error_with_the_nearest_name() -> None:
    inputs = images(8)
    with pytest.raises(WrongInput, match="no layer is called 'stam'; did you mean 'stem'") as error:
        quantized(residual(), inputs, {"stam": 8, "haed": 4, "*": 4})
    assert len(error.value.problems) == 2


def test_words() -> None:
    assert Quantize(bits=4).words() == "quantize to 4 bits"
    assert Quantize(rounding="second_order", bias_correction=True).words() == (
        "quantize to 8 bits, second order rounding, corrected biases"
    )
    assert Quantize(bits={"conv*": 4, "*": 8}).words() == "quantize conv* to 4, * to 8 bits"


@pytest.mark.usefixtures("full_range")
@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_use_the_width_and_the_weights_stand_on_them(bits: int) -> None:
    model = quantized(chain(), images(32), bits)
    for name in widths(model):
        layer = model.get_submodule(name)
        codes = weight_codes(layer)
        quantizer = weight_quantizer(layer)
        assert quantizer is not None
        assert int(codes.abs().max()) == 2 ** (bits - 1) - 1
        assert torch.allclose(quantizer.grid().values(codes), layer.weight)


def test_calibration_depends_on_the_seed_alone() -> None:
    inputs = images(300)
    stage = Quantize(bits=4, calibration_samples=100)
    first = stage.apply(chain(), bench_of(chain(), inputs, seed=1)).state_dict()
    torch.manual_seed(99)
    again = stage.apply(chain(), bench_of(chain(), inputs, seed=1)).state_dict()
    other = stage.apply(chain(), bench_of(chain(), inputs, seed=2)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_input_grids_come_from_what_the_layer_sees() -> None:
    inputs = images(50) * 3 + 1
    stage = Quantize(bits=8, calibration_samples=50, activation_range="minmax")
    model = stage.apply(nn.Sequential(nn.Flatten(), nn.Linear(144, 3)), bench_of(nn.Identity(), inputs))
    quantizer = model[1].input_quantizer
    low, high = inputs.min().item(), inputs.max().item()
    assert quantizer.scale.item() == pytest.approx((high - low) / 255)
    assert int(quantizer.zero_point) == round(-low / (high - low) * 255)


def test_batch_norms_are_folded_and_the_mode_is_kept() -> None:
    inputs = images(64)
    model = residual()
    expected = deepcopy(model).eval()(inputs)
    model.train()
    result = Quantize(bits=8).apply(model, bench_of(model, inputs))
    assert result.training
    assert not any(isinstance(module, nn.BatchNorm2d) for module in result.modules())
    difference = (result.eval()(inputs) - expected).abs().max()
    assert difference < 0.1 * expected.abs().max()


def test_outputs_are_quantised_only_where_no_quantised_layer_follows() -> None:
    model = quantized(residual(), images(32), 8)
    with_output = {name for name, module in model.named_modules() if hasattr(module, "output_quantizer")}
    # stem and conv1 feed the sum, pointwise the mean; depthwise feeds pointwise; a linear layer may end in float
    assert with_output == {"stem", "conv1", "pointwise"}


class Standardised(nn.Conv1d):
    """A convolution whose forward changes its weight first."""

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.conv1d(values, self.weight - self.weight.mean(), self.bias)


class Shared(nn.Module):
    """Layers that have no integer form, each for another reason."""

    def __init__(self) -> None:
        super().__init__()
        self.reflected = nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")
        self.one_way = nn.Linear(12, 12)
        self.other_way = nn.Linear(12, 12)
        self.other_way.weight = self.one_way.weight
        self.line = Standardised(24, 4, 1)
        self.uncalled = nn.Linear(12, 12)
        self.good = nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Tensor:
        rows = self.other_way(self.one_way(self.reflected(images)))
        columns = nn.functional.linear(self.line(rows.flatten(1, 2)), self.uncalled.weight)
        result: Tensor = self.good(columns.mean(1))
        return result


def test_layers_without_an_integer_form_are_named_and_stay_in_float(caplog: pytest.LogCaptureFixture) -> None:
    inputs = images(32)
    obstacles = dict(survey(Shared(), inputs[:1]))
    assert {name: obstacle.split()[0] for name, obstacle in obstacles.items() if obstacle is not None} == {
        "reflected": "only",
        "one_way": "its",
        "other_way": "its",
        "line": "it",
        "uncalled": "the",
    }
    with caplog.at_level(logging.WARNING, logger="paretta"):
        model = quantized(Shared(), inputs, 4)
    assert widths(model) == {"good": 4}
    assert "line stays in float: it computes in its own way" in caplog.text
    with pytest.raises(WrongInput, match="no layer of the model can be quantised"):
        quantized(nn.Sequential(Standardised(12, 3, 1)), images(8).squeeze(1), 4)


def test_computing_in_floats_is_rounding_weights_alone() -> None:
    inputs = images(64)
    model = quantized(chain(), inputs, 4, compute="float")
    assert to_bytes(model, inputs[:1]) == to_bytes(quantized(chain(), inputs, 4, activation_bits=32), inputs[:1])
    assert Quantize(bits=4, compute="float").words() == "quantize to 4 bits, weights only"
    with pytest.raises(WrongInput, match="compute"):
        stage_of({"kind": "quantize", "compute": "fast"})


@pytest.mark.usefixtures("full_range")
def test_what_launch_has_not_decided_is_told_and_computes_in_integers() -> None:
    bench = bench_of(chain(), images(64))
    model = Quantize(compute="faster").apply(chain(), bench)
    assert all(is_quantized(model.get_submodule(name)) for name in widths(model))
    assert [note.reason for note in bench.notes] == [
        "`compute: faster` is decided by `launch`; here the layers compute in integers"
    ]


def test_quantising_again_replaces_the_width() -> None:
    inputs = images(32)
    model = quantized(quantized(chain(), inputs, 8), inputs, {"0": 4, "*": 2})
    once = quantized(chain(), inputs, {"0": 4, "*": 2})
    assert widths(model) == widths(once)
    assert all(torch.equal(weight_codes(model[int(name)]), weight_codes(once[int(name)])) for name in widths(model))
    assert torch.equal(model(inputs), once(inputs))


def test_a_deep_copy_is_independent() -> None:
    inputs = images(32)
    model = quantized(chain(), inputs, 4)
    copy = deepcopy(model)
    assert torch.equal(copy(inputs), model(inputs))
    before = model(inputs)
    with torch.no_grad():
        for module in copy.modules():
            if hasattr(module, "input_quantizer"):
                module.input_quantizer.scale.mul_(4)
        for parameter in copy.parameters():
            parameter.mul_(2)
    assert torch.equal(model(inputs), before)
    assert not torch.equal(copy(inputs), before)


def test_the_graph_leaves_the_model_alone() -> None:
    inputs = images(16)
    model = quantized(chain(), inputs, 4)
    before = model(inputs)
    LayerGraph.of(model, inputs[:1])
    assert torch.equal(model(inputs), before)
    assert is_quantized(model[0])


def test_training_lowers_the_loss_and_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    inputs, targets = images(64), torch.arange(64) % 10
    model = quantized(chain(), inputs, 3).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        # data-parallel training waits for a gradient of every parameter
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.15


class Bare(nn.Module):
    """The model itself owns a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(8, 4)), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.head(inputs @ self.weight.t())
        return scores


def test_a_weight_of_the_model_itself_has_a_name() -> None:
    assert set(dict(survey(Bare(), torch.randn(1, 4)))) == {"weight", "head"}


def test_layers_are_surveyed_in_evaluation_mode_and_the_mode_is_kept() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 3)).train()
    model[2].eval()
    assert dict(survey(model, torch.randn(1, 4))) == {"0": None, "2": None}  # a norm in training refuses one sample
    assert [module.training for module in model] == [True, True, False]
    assert torch.equal(model[1].running_mean, torch.zeros(8))
