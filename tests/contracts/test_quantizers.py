"""What every quantizer keeps: zero, its grid, a bounded error, and more bits that are never worse."""

import pytest
import torch

from paretta.pipelines.quantizers import QUANTIZERS, Quantizer, quantizer_of

WEIGHT = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))


def made(name: str, bits: int, axis: int | None = 0) -> Quantizer:
    return quantizer_of(name, bits=bits, axis=axis, range="mse")


@pytest.mark.parametrize("name", QUANTIZERS.names())
class TestQuantizer:
    def test_zero_stays_zero(self, name: str) -> None:
        for bits in range(2, 9):
            for axis in (0, None):
                assert not made(name, bits, axis).fit(WEIGHT).nearest(torch.zeros_like(WEIGHT)).any()

    def test_there_are_no_more_values_than_the_bits_allow(self, name: str) -> None:
        for bits in range(2, 9):
            grid = made(name, bits).fit(WEIGHT)
            assert -128 <= grid.low <= int(grid.codes(WEIGHT).min()) < int(grid.codes(WEIGHT).max()) <= grid.high <= 127
            assert max(len(row.unique()) for row in grid.codes(WEIGHT)) <= 2**bits

    def test_what_is_on_the_grid_stays(self, name: str) -> None:
        grid = made(name, 4).fit(WEIGHT)
        on_grid = grid.nearest(WEIGHT)
        torch.testing.assert_close(grid.nearest(on_grid), on_grid)

    def test_more_bits_are_never_worse(self, name: str) -> None:
        errors = [
            float((made(name, bits).fit(WEIGHT).nearest(WEIGHT) - WEIGHT).square().mean()) for bits in range(2, 9)
        ]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 1e-4

    def test_a_step_of_each_channel_is_no_worse_than_one_for_all(self, name: str) -> None:
        scaled = WEIGHT * torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])[:, None]
        per_channel, whole = (
            float((made(name, 4, axis).fit(scaled).nearest(scaled) - scaled).square().mean()) for axis in (0, None)
        )
        assert per_channel <= whole
