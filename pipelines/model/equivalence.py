"""Compare the outputs of two callables on the same samples, and report the largest difference."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

_Sample = TypeVar("_Sample")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The largest difference between two callables' outputs.

    Args:
        largest: ``max |found - expected| / max |expected|`` over all entries of the output where it is largest, over
            all samples; infinite if structure, shape or the positions of infinities and NaN differ, or if only the
            found values are non-zero.
        where: that output, as Python would index it, such as ``[0]`` or ``['boxes']``; empty for a bare tensor.
        tolerance: differences up to this are rounding.
    """

    largest: float
    where: str
    tolerance: float

    @property
    def alike(self) -> bool:
        """Whether the outputs are the same within the tolerance."""
        return self.largest <= self.tolerance

    def words(self) -> str:
        """Describe how much the outputs differ.

        >>> Comparison(0.25, "['boxes']", 1e-3).words()
        "its answers differ by 0.25 of the largest at ['boxes'] (up to 0.001 is rounding)"
        """
        place = f" at {self.where}" if self.where else ""
        if math.isinf(self.largest):
            return f"its answers differ in shape, or are not finite at the same places{place}"
        return f"its answers differ by {self.largest:.2g} of the largest{place} (up to {self.tolerance:g} is rounding)"


@torch.no_grad()
def compare_answers(
    expected: Callable[[_Sample], object],
    found: Callable[[_Sample], object],
    samples: Iterable[_Sample],
    *,
    tolerance: float = 1e-3,
) -> Comparison:
    """Call both on every sample and return the largest difference of their outputs.

    Outputs may be tensors, arrays or numbers, or tuples, lists, dicts and dataclasses of them. Infinities and NaN match
    themselves. Both callables draw the same random numbers.

    Args:
        expected: the reference, such as a model in evaluation mode.
        found: the callable to compare, such as the model's compressed form.
        samples: the inputs, usually batches of real data; not empty.
        tolerance: the largest relative difference that counts as equal.

    >>> compare_answers(lambda x: {"double": 2 * x}, lambda x: {"double": x + x}, [torch.ones(3)]).largest
    0.0
    """
    gaps, sizes = dict[str, float](), dict[str, float]()
    for sample in samples:
        answer, right = (dict(_leaves(_repeatable(model, sample))) for model in (found, expected))
        for where in {**right, **answer}:
            gap, size = _gap(right[where], answer[where]) if where in right and where in answer else (math.inf, 0.0)
            gaps[where], sizes[where] = max(gaps.get(where, 0.0), gap), max(sizes.get(where, 0.0), size)
    ratios = {where: _ratio(gap, sizes[where]) for where, gap in gaps.items()}
    worst = max(ratios, key=lambda where: ratios[where], default="")
    return Comparison(ratios.get(worst, 0.0), worst, tolerance)


def _repeatable(model: Callable[[_Sample], object], sample: _Sample) -> object:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return model(sample)


def _leaves(answer: object, where: str = "") -> Iterator[tuple[str, object]]:
    """Yield every value of a tree with its path."""
    if isinstance(answer, Mapping):
        for key, value in answer.items():
            yield from _leaves(value, f"{where}[{key!r}]")
    elif is_dataclass(answer) and not isinstance(answer, type):
        for item in fields(answer):
            yield from _leaves(getattr(answer, item.name), f"{where}.{item.name}")
    elif isinstance(answer, tuple | list):
        for index, value in enumerate(answer):
            yield from _leaves(value, f"{where}[{index}]")
    else:
        yield where, answer


def _gap(right: object, answer: object) -> tuple[float, float]:
    """Return the largest difference of two values, and the largest magnitude of the first."""
    if not (_is_numeric(right) and _is_numeric(answer)):
        return 0.0 if right is answer or right == answer else math.inf, 0.0
    a, b = _doubles(right), _doubles(answer)
    if a.shape != b.shape:
        return math.inf, 0.0
    finite = a.isfinite() & b.isfinite()
    if not bool((finite | (a == b) | (a.isnan() & b.isnan())).all()):
        return math.inf, 0.0
    a, b = a[finite], b[finite]
    return (float((a - b).abs().max()), float(a.abs().max())) if len(a) else (0.0, 0.0)


def _ratio(gap: float, size: float) -> float:
    if gap == 0.0:
        return 0.0
    return gap / size if size > 0 else math.inf


def _is_numeric(value: object) -> bool:
    return isinstance(value, Tensor | np.ndarray | np.generic | bool | int | float | complex)


def _doubles(value: object) -> Tensor:
    tensor = torch.as_tensor(value).detach().cpu()
    return torch.view_as_real(tensor).double() if tensor.is_complex() else tensor.double()
