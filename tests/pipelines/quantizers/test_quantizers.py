"""Grids agree with torch's own quantisation, map zero to zero and get finer with more bits."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from paretta.pipelines.quantization.fake_quantize import ActivationQuantizer, LearnedStepSize
from paretta.pipelines.quantizers import Quantizer, percentile_range
from paretta.pipelines.quantizers.affine import Affine, affine_grid
from paretta.pipelines.quantizers.codebook import Codebook, best_levels
from paretta.pipelines.quantizers.power_of_two import PowerOfTwo
from paretta.pipelines.quantizers.symmetric import Symmetric

WIDTHS = range(2, 9)


def weights(seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(6, 4, 3, 3) * torch.tensor([0.01, 0.1, 1.0, 3.0, 10.0, 0.0]).view(-1, 1, 1, 1)


def activations(rule: str) -> Affine:
    return Affine.model_validate({"range": rule, "axis": None, "signed": False})


@pytest.mark.parametrize("bits", WIDTHS)
def test_symmetric_weights_equal_torchs_fake_quantisation(bits: int) -> None:
    grid = Symmetric(bits=bits).fit(weights())
    expected = torch.fake_quantize_per_channel_affine(weights(), grid.scale, grid.zero_point, 0, grid.low, grid.high)
    assert torch.equal(grid.nearest(weights()), expected)
    assert (grid.low, grid.high) == (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)


@pytest.mark.parametrize("rule", ["minmax", "percentile", "mse"])
def test_affine_activations_equal_torchs_fake_quantisation(rule: str) -> None:
    values = weights(1) + 0.3
    grid = activations(rule).fit(values)
    expected = torch.fake_quantize_per_tensor_affine(values, float(grid.scale), int(grid.zero_point), 0, 255)
    torch.testing.assert_close(grid.nearest(values), expected, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(low=st.floats(-100, 100), width=st.floats(0, 100), bits=st.integers(2, 8))
def test_affine_grids_hold_zero_exactly_and_miss_by_half_a_step(low: float, width: float, bits: int) -> None:
    grid = affine_grid(torch.tensor(low), torch.tensor(low + width), bits)
    assert grid.nearest(torch.tensor(0.0)).item() == 0.0
    assert 0 <= int(grid.zero_point) <= 2**bits - 1
    values = torch.linspace(min(low, 0.0), max(low + width, 0.0), 101)
    # the zero point is rounded, which may move one end of the range by half a step
    assert bool(((grid.nearest(values) - values).abs() <= grid.scale * 1.001 + 1e-6).all())


def test_activations_after_a_relu_have_zero_point_zero() -> None:
    for rule in ("minmax", "percentile", "mse"):
        grid = activations(rule).fit(weights().relu())
        assert int(grid.zero_point) == 0


@pytest.mark.parametrize("bits", WIDTHS)
def test_affine_weights_equal_torchs_fake_quantisation(bits: int) -> None:
    grid = Affine(bits=bits).fit(weights())
    expected = torch.fake_quantize_per_channel_affine(weights(), grid.scale, grid.zero_point, 0, grid.low, grid.high)
    torch.testing.assert_close(grid.nearest(weights()), expected, rtol=1e-6, atol=1e-6)
    assert (grid.low, grid.high) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@pytest.mark.parametrize("quantizer", [Symmetric, Affine, PowerOfTwo, Codebook])
@pytest.mark.parametrize("rule", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("axis", [0, None])
def test_every_rule_and_granularity_fits(quantizer: type[Quantizer], rule: str, axis: int | None) -> None:
    grid = quantizer.model_validate({"bits": 4, "range": rule, "axis": axis}).fit(weights())
    assert grid.scale.shape == grid.zero_point.shape == (() if axis is None else (6,))
    error = (grid.nearest(weights()) - weights()).square().mean()
    assert float(error) < 0.1 * float(weights().square().mean())


@pytest.mark.parametrize("bits", WIDTHS)
def test_fixed_point_steps_are_powers_of_two_and_none_fits_better(bits: int) -> None:
    rows = weights()[:5].flatten(1)
    grid = PowerOfTwo(bits=bits).fit(rows)
    exponents = torch.log2(grid.scale)
    assert torch.equal(exponents, exponents.round())
    error = (grid.nearest(rows) - rows).square().sum(1)
    for shift in (-2.0, -1.0, 1.0):
        other = Symmetric(bits=bits).fit(rows)
        other = type(other)(torch.exp2(exponents + shift), other.zero_point, other.low, other.high, axis=0)
        assert bool((error <= (other.nearest(rows) - rows).square().sum(1) * 1.0001).all())


def best_error(counts: list[int], number: int) -> int:
    """Try all sets of places."""
    middle, places = len(counts) // 2, range(len(counts))
    sets = [{middle, *chosen} for chosen in combinations(places, number - 1)]
    return min(sum(c * min((at - level) ** 2 for level in levels) for at, c in enumerate(counts)) for levels in sets)


@settings(deadline=None, max_examples=60)
@given(counts=st.lists(st.integers(0, 9), min_size=9, max_size=9), number=st.integers(2, 4))
def test_the_levels_of_a_codebook_are_the_best_there_are(counts: list[int], number: int) -> None:
    levels = best_levels(np.array(counts), number)
    assert len(counts) // 2 in levels
    # the zero level may come on top of `number` intervals where nothing stands near it
    assert len(levels) <= number + 1
    error = sum(c * min((at - level) ** 2 for level in levels.tolist()) for at, c in enumerate(counts))
    assert error <= best_error(counts, number)


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_searched_step_is_as_good_as_an_exhaustive_search(bits: int) -> None:
    rows = weights()[:5].flatten(1)
    limit = 2 ** (bits - 1) - 1

    def error(scale: torch.Tensor) -> torch.Tensor:
        steps = (rows / scale[:, None]).round().clamp(-limit, limit) * scale[:, None]
        return (rows - steps).square().sum(1)

    peak = rows.abs().amax(1) / limit
    best = torch.stack([error(peak * clip) for clip in torch.linspace(0.05, 1.0, 2000)]).amin(0)
    found = error(Symmetric(bits=bits).fit(weights()[:5]).scale)
    assert bool((found <= error(peak)).all())
    assert bool((found <= best * 1.25).all())


def test_percentiles_leave_out_both_tails() -> None:
    values = torch.cat([torch.randn(9998, generator=torch.Generator().manual_seed(0)), torch.tensor([1e6, -1e6])])
    low, high = percentile_range(values[None], 99.9)
    assert -6 < float(low) < -3
    assert 3 < float(high) < 6


@pytest.mark.parametrize("bits", [1, 9])
def test_widths_outside_two_to_eight_are_refused(bits: int) -> None:
    for quantizer in (Symmetric, Affine):
        with pytest.raises(ValidationError):
            quantizer(bits=bits)


@pytest.mark.parametrize("bits", WIDTHS)
def test_learned_steps_have_the_gradients_of_the_paper(bits: int) -> None:
    torch.manual_seed(bits)
    weight = torch.randn(3, 5, requires_grad=True)
    quantizer = LearnedStepSize(Symmetric(bits=bits).fit(weight), 5)
    with torch.no_grad():
        # so that no weight stands exactly on the clipping edge, and rounding to bfloat16 changes nothing
        quantizer.scale.mul_(0.83).copy_(quantizer.scale.bfloat16())
    upstream = torch.randn(3, 5)
    quantizer(weight).backward(upstream)
    limit = 2 ** (bits - 1) - 1
    step = quantizer.scale.detach()[:, None]
    ratio = weight.detach() / step
    inside = ratio.abs() <= limit
    by_step = torch.where(inside, ratio.round() - ratio, ratio.sign() * limit)
    expected = (upstream * by_step).sum(1) / (5 * limit) ** 0.5
    assert quantizer.scale.grad is not None
    torch.testing.assert_close(quantizer.scale.grad, expected, rtol=1e-4, atol=1e-6)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, upstream * inside)


def test_learned_steps_keep_zeros_and_stand_on_their_grid() -> None:
    weight = weights()
    for fitted in (
        Symmetric(bits=3),
        Affine(bits=3),
        PowerOfTwo(bits=3),
        Codebook(bits=3),
        Codebook(bits=3, axis=None),
    ):
        quantizer = LearnedStepSize(fitted.fit(weight), 36)
        with torch.no_grad():
            quantizer.scale.mul_(1.1)  # as if it had been trained
        quantized = quantizer(weight)
        assert torch.equal(quantized[5], torch.zeros(4, 3, 3))
        torch.testing.assert_close(quantized, quantizer.grid().nearest(weight))
        assert len(quantized[0].unique()) <= 8
        assert quantizer.bits == 3


def test_learned_fixed_point_steps_stay_powers_of_two() -> None:
    quantizer = LearnedStepSize(PowerOfTwo(bits=4).fit(weights()), 36)
    optimiser = torch.optim.SGD(quantizer.parameters(), lr=0.05)
    for _ in range(3):
        quantizer(weights()).square().sum().backward()
        optimiser.step()
    exponents = torch.log2(quantizer.steps())
    assert torch.equal(exponents, exponents.round())
    assert not torch.equal(quantizer.scale, PowerOfTwo(bits=4).fit(weights()).scale)


def test_activation_gradients_stop_outside_the_range() -> None:
    quantizer = ActivationQuantizer(affine_grid(torch.tensor(-1.0), torch.tensor(1.0)))
    values = torch.tensor([-5.0, -0.5, 0.0, 0.5, 5.0], requires_grad=True)
    quantizer(values).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert not list(quantizer.parameters())


@pytest.mark.parametrize("quantizer", [Symmetric(bits=3), Affine(bits=5), Symmetric(bits=8, axis=None)])
def test_learned_steps_have_the_digits_of_bfloat16_and_weights_stand_on_them(quantizer: Quantizer) -> None:
    learned = LearnedStepSize(quantizer.fit(weights()), 100)
    grid, on_grid = learned.grid(), learned(weights())
    assert torch.equal(grid.scale, grid.scale.bfloat16().float())
    assert ((grid.scale - learned.scale).abs() <= learned.scale / 256).all()
    torch.testing.assert_close(grid.nearest(on_grid.detach()), on_grid.detach(), rtol=1e-6, atol=0)
