"""Grids agree with torch's own quantisation, map zero to zero and get finer with more bits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.fake_quantize import ActivationQuantizer, LearnedStepSize
from pipelines.quantizers.affine import Affine, affine_grid, percentile_range
from pipelines.quantizers.symmetric import Symmetric, symmetric_scale

WIDTHS = range(2, 9)


def weights(seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(6, 4, 3, 3) * torch.tensor([0.01, 0.1, 1.0, 3.0, 10.0, 0.0]).view(-1, 1, 1, 1)


@pytest.mark.parametrize("bits", WIDTHS)
def test_symmetric_weights_equal_torchs_fake_quantisation(bits: int) -> None:
    grid = Symmetric(bits=bits).fit(weights())
    expected = torch.fake_quantize_per_channel_affine(weights(), grid.scale, grid.zero_point, 0, grid.low, grid.high)
    assert torch.equal(grid.nearest(weights()), expected)
    assert (grid.low, grid.high) == (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)


@pytest.mark.parametrize("rule", ["minmax", "percentile", "mse"])
def test_affine_activations_equal_torchs_fake_quantisation(rule: str) -> None:
    values = weights(1) + 0.3
    grid = Affine.model_validate({"range": rule}).fit(values)
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
        grid = Affine.model_validate({"range": rule}).fit(weights().relu())
        assert int(grid.zero_point) == 0


@pytest.mark.parametrize("quantizer", [Symmetric, Affine])
def test_more_bits_mean_less_error_and_zero_stays_zero(quantizer: type[Symmetric] | type[Affine]) -> None:
    errors = []
    for bits in WIDTHS:
        grid = quantizer(bits=bits).fit(weights())
        errors.append(float((grid.nearest(weights()) - weights()).square().sum()))
        assert torch.equal(grid.nearest(torch.zeros_like(weights())), torch.zeros_like(weights()))
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_searched_step_is_as_good_as_an_exhaustive_search(bits: int) -> None:
    rows = weights()[:5].flatten(1)
    limit = 2 ** (bits - 1) - 1

    def error(scale: torch.Tensor) -> torch.Tensor:
        steps = (rows / scale[:, None]).round().clamp(-limit, limit) * scale[:, None]
        return (rows - steps).square().sum(1)

    peak = rows.abs().amax(1) / limit
    best = torch.stack([error(peak * clip) for clip in torch.linspace(0.05, 1.0, 2000)]).amin(0)
    found = error(symmetric_scale(weights()[:5], bits))
    assert bool((found <= error(peak)).all())
    assert bool((found <= best * 1.25).all())


def test_percentiles_leave_out_both_tails() -> None:
    values = torch.cat([torch.randn(9998, generator=torch.Generator().manual_seed(0)), torch.tensor([1e6, -1e6])])
    low, high = percentile_range(values, 99.9)
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
    quantizer = LearnedStepSize(weight, bits)
    with torch.no_grad():
        quantizer.scale.mul_(0.83)  # so that no weight stands exactly on the clipping edge
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
    quantizer = LearnedStepSize(weight, 3)
    quantized = quantizer(weight)
    assert torch.equal(quantized[5], torch.zeros(4, 3, 3))
    torch.testing.assert_close(quantized, quantizer.grid().nearest(weight))
    assert len(quantized[0].unique()) <= 7


def test_activation_gradients_stop_outside_the_range() -> None:
    quantizer = ActivationQuantizer(affine_grid(torch.tensor(-1.0), torch.tensor(1.0)))
    values = torch.tensor([-5.0, -0.5, 0.0, 0.5, 5.0], requires_grad=True)
    quantizer(values).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert not list(quantizer.parameters())
