"""The length of a weight's integer codes, as a loss that training can lower."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_LARGEST = 128
_OVERHEAD = 64.0  # bits that a matrix takes whatever it holds
# how many numbers the share of the whole matrix counts for in the share of one row or column
_STRENGTHS = (2.0, 6.0, 20.0, 60.0)
_HALF = 0.5


def code_bits(ratio: Tensor) -> Tensor:
    """Return the bits that ``round(ratio)`` takes, with a gradient for `ratio`.

    The length is that of an adaptive code, which pays for learning its prior: whether each integer is zero, by the
    shares of zeros in its row, its column and the whole matrix; its sign; its size, by the sizes seen. It is computed
    from counts (a Beta prior on each share integrated out), not by coding. The gradient between two integers is the
    difference of their lengths, as if numbers were rounded up or down at random without bias. It is at least that of
    a geometric distribution of the same mean, up to a bit: where zeros are still rare, the counts would keep them so.

    Args:
        ratio: [rows, columns], weights in steps before they are rounded.

    >>> ratio = torch.tensor([[0.0, 0.0, 0.4, -1.3]], requires_grad=True)
    >>> code_bits(ratio).backward()
    >>> [round(slope) for slope in ratio.grad[0].sign().tolist()]
    [0, 0, 1, -1]
    """
    sizes = ratio.abs().clamp(max=_LARGEST)
    with torch.no_grad():
        found = _Prior.of(sizes.round())
        below = sizes.floor()
        slopes = found.bits(below + 1) - found.bits(below)
        slopes = slopes.clamp(min=math.log2(1 + 1 / max(float(sizes.mean()), 1.0)))
    passed = (slopes * sizes).sum()
    return found.total + (passed - passed.detach())


@dataclass(frozen=True, slots=True)
class _Prior:
    """What an adaptive code knows at the end.

    Args:
        total: the length of everything in bits.
        not_zero: [rows, columns], how many more bits an integer that is not zero takes at each place, without its size.
        size: the bits of a size of 1, 2, .. and its sign.
    """

    total: Tensor
    not_zero: Tensor
    size: Tensor

    @classmethod
    def of(cls, sizes: Tensor) -> "_Prior":
        """Fit to whole numbers of at least 0, [rows, columns]."""
        used = (sizes > 0).double()
        ones, all_ = used.sum().view(1), used.new_full((1,), used.numel())
        half = torch.full_like(ones, _HALF)
        share = (ones + half) / (all_ + 1)
        flags, odds = _binary(ones, all_, half, half)
        alone, not_zero = flags, odds.view(1, 1).expand_as(used)
        for axis in (1, 0):
            ones = used.sum(axis)
            all_ = torch.full_like(ones, used.shape[axis])
            tried = [_binary(ones, all_, strength * share, strength * (1 - share)) for strength in _STRENGTHS]
            bits, by_line = tried[int(torch.stack([bits for bits, _ in tried]).argmin())]
            if bits < alone:
                flags = flags + bits - alone
                not_zero = not_zero + by_line.unsqueeze(axis) - odds
        seen = torch.bincount(sizes.long().flatten(), minlength=_LARGEST + 2)[1:].double()
        length, size = _sizes(seen)
        return cls((flags + length + _OVERHEAD).to(sizes.dtype), not_zero.to(sizes.dtype), size.to(sizes.dtype))

    def bits(self, sizes: Tensor) -> Tensor:
        """Return how many bits each size takes more than a zero at its place, shaped like `sizes`."""
        return torch.where(sizes > 0, self.not_zero + self.size[(sizes.long() - 1).clamp(min=0)], 0.0)


def _binary(ones: Tensor, all_: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bits of binary sequences under Beta(a, b) priors, summed, and of each what a 1 costs over a 0."""
    zeros = all_ - ones
    nats = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
    nats = nats + torch.lgamma(all_ + a + b) - torch.lgamma(ones + a) - torch.lgamma(zeros + b)
    return nats.sum() / math.log(2), (torch.digamma(zeros + b) - torch.digamma(ones + a)) / math.log(2)


def _sizes(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bits of all signs and sizes, whose counts are `seen`, and of one of each size.

    A size is coded in unary, each of whose bits has a share of its own.
    """
    longer = seen.flip(0).cumsum(0).flip(0)  # numbers of at least this size
    most = int((longer > 0).sum()) + 1
    ones, all_ = longer[1 : most + 1], longer[:most]
    half = torch.full_like(ones, _HALF)
    bits, odds = _binary(ones, all_, half, half)
    at_end, further = torch.log1p(torch.exp2(-odds)), torch.log1p(torch.exp2(odds))
    steps = torch.cat([further, further[-1:].expand(len(seen) - most)]) / math.log(2)
    ends = torch.cat([at_end, at_end[-1:].expand(len(seen) - most)]) / math.log(2)
    return bits + seen.sum(), 1 + ends + steps.cumsum(0) - steps
