"""What every quantizer keeps: zero, its grid, a bounded error, and more bits that are never worse."""

from typing import Protocol

import pytest
import torch

from orchestrator.catalogue import REGISTRIES
from pipelines.grid import Grid

QUANTIZERS = REGISTRIES["quantizers"]
WEIGHT = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))


class Quantizer(Protocol):
    def fit(self, values: torch.Tensor) -> Grid: ...


def made(name: str, bits: int) -> Quantizer:
    quantizer: Quantizer = QUANTIZERS.load(name)(bits=bits)  # type: ignore[operator]
    return quantizer


@pytest.mark.parametrize("name", QUANTIZERS.names())
class TestQuantizer:
    def test_zero_stays_zero(self, name: str) -> None:
        for bits in range(2, 9):
            assert not made(name, bits).fit(WEIGHT).nearest(torch.zeros_like(WEIGHT)).any()

    def test_there_are_no_more_values_than_the_bits_allow(self, name: str) -> None:
        for bits in range(2, 9):
            grid = made(name, bits).fit(WEIGHT)
            assert grid.high - grid.low < 2**bits
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
