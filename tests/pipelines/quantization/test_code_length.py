"""The reckoned length of codes is that of adaptive codes written out, and what the coded file takes."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from paretta.pipelines.coding.ans import Writer
from paretta.pipelines.coding.codes import code_codes, ways
from paretta.pipelines.quantization.code_length import code_bits

OVERHEAD = 64


def drawn(rows: int, columns: int, share: float, *, seed: int = 0) -> Tensor:
    random = np.random.default_rng(seed)
    codes = (random.random((rows, columns)) < share) * random.geometric(0.6, (rows, columns))
    return torch.from_numpy(codes * random.choice([-1, 1], (rows, columns))).float()


def one_by_one(bits: list[int]) -> float:
    """The length of a binary sequence under the estimate of Krichevsky and Trofimov, coded bit by bit."""
    seen, length = [0.5, 0.5], 0.0
    for bit in bits:
        length -= math.log2(seen[bit] / sum(seen))
        seen[bit] += 1
    return length


def test_it_is_the_length_of_an_adaptive_code() -> None:
    codes = drawn(40, 50, 0.3)
    sizes = codes.abs().flatten().int().tolist()
    flags = one_by_one([int(size > 0) for size in sizes])
    signs = sum(size > 0 for size in sizes)
    unary = sum(one_by_one([int(size > k) for size in sizes if size >= k]) for k in range(1, max(sizes) + 1))
    # rows and columns may be of some use by chance, never of harm
    expected = OVERHEAD + flags + signs + unary
    assert 0.985 * expected < code_bits(codes).item() <= expected + 0.01


@pytest.mark.parametrize(
    ("rows", "columns", "share"), [(10, 25, 0.5), (25, 250, 0.2), (25, 250, 0.08), (100, 400, 0.02)]
)
def test_the_coded_file_takes_hardly_more(rows: int, columns: int, share: float) -> None:
    codes = drawn(rows, columns, share)
    integers = codes.numpy().astype(np.int64)
    trials = []
    for way in ways(integers):
        writer = Writer()
        code_codes(writer, (rows, columns), integers, way)
        trials.append(len(writer.finish()[0]))
    assert 0.95 < 8 * min(trials) / code_bits(codes).item() < 1.02


@pytest.mark.parametrize(("at", "size"), [((0, 3), 1), ((5, 7), 2), ((2, 2), 3)])
def test_the_slope_is_what_a_larger_integer_costs(at: tuple[int, int], size: int) -> None:
    codes = drawn(30, 40, 0.3)
    codes[:, 7] = torch.where(torch.arange(30) % 2 == 0, codes[:, 7], 1.0)
    smaller, larger = codes.clone(), codes.clone()
    smaller[at], larger[at] = size - 1, size
    between = smaller.clone()
    between[at] = size - 0.6  # rounded down
    between.requires_grad_()
    code_bits(between).backward()
    assert between.grad is not None
    cost = (code_bits(larger) - code_bits(smaller)).item()
    assert between.grad[at].item() == pytest.approx(cost, rel=0.1, abs=0.15)
    assert code_bits(between).item() == code_bits(smaller).item()


def test_zeros_that_lie_together_take_fewer_bits() -> None:
    apart, together = torch.zeros(20, 60), torch.zeros(20, 60)
    apart.view(-1)[::7] = 1.0
    together[:, :9] = 1.0
    assert code_bits(together).item() < 0.5 * code_bits(apart).item()


def test_where_zeros_are_rare_numbers_are_drawn_to_zero_all_the_same() -> None:
    ratio = torch.linspace(-7.4, 7.4, 200).view(10, 20).requires_grad_()
    code_bits(ratio).backward()
    assert ratio.grad is not None
    assert bool((ratio.grad * ratio > 0.1 * ratio.abs()).all())


def test_a_matrix_of_zeros_has_no_slope_that_is_not_finite() -> None:
    ratio = torch.zeros(4, 5, requires_grad=True)
    code_bits(ratio + 0.1).backward()
    assert ratio.grad is not None
    assert bool((ratio.grad > 1).all())
    assert bool(torch.isfinite(ratio.grad).all())
