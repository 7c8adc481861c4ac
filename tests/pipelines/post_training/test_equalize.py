"""Equalisation and smoothing leave the function as it is to the last bit, and even out what is quantised."""

from typing import cast

import pytest
import torch
from quantized_models import bench_of, images, residual
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.model.masks import attach_mask
from paretta.pipelines.post_training.equalize import equalized, smoothed
from paretta.pipelines.post_training.scale_sites import ScaleSite, scale_sites
from paretta.pipelines.stage import Stage, stage_of
from paretta.pipelines.stages.equalize import Equalize
from paretta.pipelines.stages.quantize import Quantize
from paretta.search_spaces.errors import WrongInput


def mobile() -> nn.Sequential:
    """Pointwise, depthwise and grouped convolutions, pools and linear layers with uneven channels."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.LeakyReLU(0.125),
        nn.Conv2d(8, 12, 1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Linear(12 * 16, 16),
        nn.ReLU(),
        nn.Linear(16, 10),
    )
    with torch.no_grad():  # channels that are large in one layer are small in the next
        for first, second, repeat in ((0, 2, 1), (2, 4, 1), (4, 8, 16), (8, 10, 1)):
            scale = torch.exp2(torch.randint(-4, 5, (len(model[first].weight),)).float())
            model[first].weight *= scale.view(-1, *[1] * (model[first].weight.dim() - 1))
            model[first].bias *= scale
            if first == 0:  # depthwise
                model[second].weight /= scale.view(-1, 1, 1, 1)
            elif first == 2:  # two groups
                model[second].weight[:6] /= scale[:4].view(1, -1, 1, 1)
                model[second].weight[6:] /= scale[4:].view(1, -1, 1, 1)
            else:
                model[second].weight /= scale.repeat_interleave(repeat)
    return model.eval()


def test_a_linear_layer_over_the_last_axis_of_an_image_reads_no_channels() -> None:
    """The image has as many columns as channels, so that a wrong move would show in the answers alone."""
    torch.manual_seed(5)
    columns = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Linear(12, 4)).eval()
    assert scale_sites(columns, images(1)) == []
    channels = nn.Sequential(nn.Conv2d(1, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4)).eval()
    assert scale_sites(channels, images(1, size=8)) == [ScaleSite("0", ("3",))]
    with torch.no_grad():
        expected = columns(images(4))
        assert torch.equal(Equalize().apply(columns, bench_of(columns, images(4)))(images(4)), expected)


class Encoder(nn.Module):
    """A block before whose projections a LayerNorm stands, and one with a norm of its own making."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.embed = nn.Linear(12, 16)
        self.norm = nn.LayerNorm(16)
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.gain = nn.Parameter(torch.ones(16))
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.last = nn.LayerNorm(16)
        self.head = nn.Linear(16, 10)
        with torch.no_grad():
            self.norm.weight[3], self.norm.bias[5], self.gain[7] = 60.0, 40.0, 50.0
            self.up.weight *= torch.exp(torch.randn(32, 1))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images.squeeze(1))
        normed = self.norm(tokens)
        scores = torch.softmax(self.query(normed) @ self.key(normed).mT, -1)
        tokens = tokens + scores @ self.value(normed)
        scaled = self.gain * (tokens * torch.rsqrt(tokens.square().mean(-1, keepdim=True) + 1e-6))
        tokens = tokens + self.down(torch.relu(self.up(scaled)))
        return cast(Tensor, self.head(self.last(tokens) + tokens).mean(1))


def applied(model: nn.Module, **settings: object) -> tuple[nn.Module, Bench]:
    bench = bench_of(model, images(40))
    return Equalize.model_validate(settings).apply(model, bench).eval(), bench


@pytest.mark.parametrize("method", ["cross_layer", "smooth"])
@pytest.mark.parametrize("make", [mobile, Encoder])
def test_the_function_stays_the_same_to_the_last_bit(method: str, make: type[nn.Module]) -> None:
    inputs = images(20, seed=1)
    with torch.no_grad():
        expected = make().eval()(inputs)
        model, bench = applied(make().eval(), method=method)
        assert bench.notes == []  # something has moved
        assert torch.equal(model(inputs), expected)


def test_weights_on_both_sides_of_a_channel_get_equal_ranges() -> None:
    model = mobile()
    sites = scale_sites(model, images(1))
    assert [(site.source, site.readers) for site in sites] == [
        ("0", ("2",)),
        ("2", ("4",)),
        ("4", ("8",)),
        ("8", ("10",)),
    ]
    equalized(model, sites)
    made = model[0].weight.detach().flatten(1).abs().amax(1)
    read = model[2].weight.detach().flatten(1).abs().amax(1)  # depthwise: row and channel are one
    assert bool(((made / read).log2().abs() <= 1.01).all())
    made, read = model[8].weight.detach().abs().amax(1), model[10].weight.detach().abs().amax(0)
    assert bool(((made / read).log2().abs() <= 1.01).all())


def test_smoothing_evens_out_activations_as_its_formula_says() -> None:
    model, inputs = Encoder().eval(), images(40)
    site = ScaleSite("norm", ("query", "key", "value"))
    assert site in scale_sites(model, inputs[:1])
    seen: list[Tensor] = []
    model.query.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().abs().flatten(0, 1).amax(0)))
    with torch.no_grad():
        model(inputs)
        columns = torch.stack([layer.weight.abs().amax(0) for layer in (model.query, model.key, model.value)]).amax(0)
        scale = (seen[0] / columns).sqrt()
        expected = (scale / scale.log().mean().exp()).log2().round().exp2()
        before = model.norm.weight.clone()
        assert site in smoothed(model, [site], [inputs], 0.5)
        assert torch.equal(before / model.norm.weight, expected)
        model(inputs)
    assert seen[-1].max() / seen[-1].median() < 0.3 * seen[0].max() / seen[0].median()


def test_what_is_read_elsewhere_too_is_no_place_for_a_scale() -> None:
    names = [site.source for site in scale_sites(Encoder().eval(), images(1))]
    assert "last" not in names  # a sum reads it too
    assert "embed" not in names
    assert ScaleSite("", ("up",), "gain") in scale_sites(Encoder().eval(), images(1))
    sources = [site.source for site in scale_sites(residual().eval(), images(1))]
    assert sources == ["depthwise", "pointwise"]  # the others feed sums, or norms that are not folded yet


def test_equalised_weights_lose_less_on_one_grid_for_the_layer() -> None:
    inputs = images(64)
    coarse: dict[str, object] = {
        "bits": 4, "granularity": "tensor", "activation_bits": 32, "calibration_samples": 64, "weight_range": "minmax"
    }  # fmt: skip
    with torch.no_grad():
        wanted = mobile()(inputs)
        plain = Quantize.model_validate(coarse).apply(mobile(), bench_of(mobile(), inputs)).eval()
        even, _ = applied(mobile())
        even = Quantize.model_validate(coarse).apply(even, bench_of(even, inputs)).eval()
        assert (even(inputs) - wanted).square().mean() < 0.5 * (plain(inputs) - wanted).square().mean()


def test_smoothed_activations_lose_less_on_one_grid() -> None:
    inputs = images(64)
    static: dict[str, object] = {"bits": 8, "calibration_samples": 64, "activation_range": "minmax"}
    with torch.no_grad():
        wanted = Encoder().eval()(inputs)
        plain = Quantize.model_validate(static).apply(Encoder().eval(), bench_of(Encoder(), inputs)).eval()
        even, _ = applied(Encoder().eval(), method="smooth")
        even = Quantize.model_validate(static).apply(even, bench_of(even, inputs)).eval()
        assert (even(inputs) - wanted).square().mean() < 0.5 * (plain(inputs) - wanted).square().mean()


def test_masked_weights_stay_masked_and_dead_channels_stay_as_they_are() -> None:
    inputs, model = images(20), mobile()
    keep = torch.rand(model[8].weight.shape, generator=torch.Generator().manual_seed(0)) > 0.3
    attach_mask(model[8], keep)
    with torch.no_grad():
        model[0].weight[2] = 0.0
        expected = model(inputs)
        model, _ = applied(model)
        assert torch.equal(model(inputs), expected)
        assert bool((model[8].weight[~keep] == 0).all())


def test_a_model_without_such_places_is_told() -> None:
    _, bench = applied(nn.Sequential(nn.Flatten(), nn.Linear(144, 10)))
    assert [str(note) for note in bench.notes] == [
        "equalize changed nothing: no layer can take over the scale of another"
    ]


def test_it_comes_before_quantize() -> None:
    earlier: list[Stage] = [stage_of({"kind": "quantize"})]
    assert "put `equalize` before it" in str(Equalize().conflict(earlier, in_baseline=False))
    with pytest.raises(WrongInput, match="cross_layer"):
        stage_of({"kind": "equalize", "method": "smoothquant"})
    assert Equalize(method="smooth").words() == "smooth by 0.5"
