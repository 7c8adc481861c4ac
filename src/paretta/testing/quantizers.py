"""Contract tests that every quantizer must pass: exact zero, few values, and errors that fall with more bits."""

import pytest
import torch

from paretta.pipelines.quantizers import Quantizer

WEIGHT = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))


class QuantizerContract:
    """Override the fixture `quantizer`."""

    @pytest.fixture
    def quantizer(self) -> type[Quantizer]:
        """Return the class under test."""
        raise NotImplementedError("override the fixture `quantizer`")

    def test_zero_stays_zero(self, quantizer: type[Quantizer]) -> None:
        for bits in range(2, 9):
            for axis in (0, None):
                grid = quantizer(bits=bits, axis=axis).fit(WEIGHT)
                assert not grid.nearest(torch.zeros_like(WEIGHT)).any()

    def test_there_are_no_more_values_than_the_bits_allow(self, quantizer: type[Quantizer]) -> None:
        for bits in range(2, 9):
            grid = quantizer(bits=bits).fit(WEIGHT)
            codes = grid.codes(WEIGHT)
            assert -128 <= grid.low <= int(codes.min()) < int(codes.max()) <= grid.high <= 127
            assert max(len(row.unique()) for row in codes) <= 2**bits

    def test_what_is_on_the_grid_stays(self, quantizer: type[Quantizer]) -> None:
        grid = quantizer(bits=4).fit(WEIGHT)
        on_grid = grid.nearest(WEIGHT)
        torch.testing.assert_close(grid.nearest(on_grid), on_grid)

    def test_more_bits_are_never_worse(self, quantizer: type[Quantizer]) -> None:
        errors = [error(quantizer(bits=bits), WEIGHT) for bits in range(2, 9)]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 1e-4

    def test_a_step_of_each_channel_is_no_worse_than_one_for_all(self, quantizer: type[Quantizer]) -> None:
        scaled = WEIGHT * torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])[:, None]
        per_channel, whole = (error(quantizer(bits=4, axis=axis), scaled) for axis in (0, None))
        assert per_channel <= whole


def error(quantizer: Quantizer, weight: torch.Tensor) -> float:
    """Return the mean squared error of rounding `weight` to the grid fitted to it."""
    return float((quantizer.fit(weight).nearest(weight) - weight).square().mean())
