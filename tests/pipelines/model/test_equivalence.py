"""How much two callables' answers differ, against differences written out by hand."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paretta.pipelines.model.equivalence import compare_answers


@dataclass
class Detection:
    boxes: Tensor
    scores: list[Tensor]


def always(answer: object) -> object:
    return lambda _: answer


def test_the_difference_is_relative_to_the_largest_expected_value_of_that_output() -> None:
    expected = {"large": torch.tensor([100.0, 1.0]), "small": torch.tensor([0.5, -2.0])}
    found = {"large": torch.tensor([100.0, 2.0]), "small": torch.tensor([0.5, -1.5])}
    comparison = compare_answers(always(expected), always(found), [0], tolerance=0.2)
    assert (comparison.largest, comparison.where) == (0.25, "['small']")  # 0.5 of 2, and not 1 of 100
    assert not comparison.alike
    assert compare_answers(always(expected), always(found), [0], tolerance=0.25).alike


def test_all_samples_count_and_share_one_scale() -> None:
    comparison = compare_answers(lambda x: x, lambda x: x + (x == 1).float(), [torch.ones(2), torch.full((2,), 10.0)])
    assert comparison.largest == pytest.approx(0.1)


def test_trees_of_every_kind_are_walked() -> None:
    right = (Detection(torch.ones(2), [torch.zeros(1), torch.ones(1)]), {"n": 3})
    wrong = (Detection(torch.ones(2), [torch.zeros(1), torch.full((1,), 1.5)]), {"n": 3})
    comparison = compare_answers(always(right), always(wrong), [0])
    assert (comparison.largest, comparison.where) == (0.5, "[0].scores[1]")
    assert compare_answers(always(right), always(right), [0]).largest == 0.0


def test_tensors_and_arrays_of_any_type_are_compared_by_value() -> None:
    assert compare_answers(always(torch.ones(2, dtype=torch.half)), always(np.ones(2)), [0]).largest == 0.0
    assert compare_answers(always(torch.tensor([True, False])), always(torch.tensor([True, True])), [0]).largest == 1.0
    assert compare_answers(always(torch.tensor([3 + 4j])), always(torch.tensor([3 + 2j])), [0]).largest == 0.5


def test_infinite_scores_match_themselves_alone() -> None:
    scores = torch.tensor([-math.inf, 1.0, math.nan])
    assert compare_answers(always(scores), always(scores.clone()), [0]).largest == 0.0
    for changed in (
        [0.0, 1.0, math.nan],
        [math.inf, 1.0, math.nan],
        [-math.inf, math.nan, math.nan],
        [-math.inf, 1.0, 0.0],
    ):
        assert math.isinf(compare_answers(always(scores), always(torch.tensor(changed)), [0]).largest)


@pytest.mark.parametrize("found", [torch.ones(3), torch.ones(1, 2), (torch.ones(2),), None, {"a": torch.ones(2)}])
def test_another_shape_or_structure_differs_infinitely(found: object) -> None:
    comparison = compare_answers(always(torch.ones(2)), always(found), [0])
    assert math.isinf(comparison.largest)
    assert "differ in shape" in comparison.words()


def test_random_draws_of_both_are_the_same() -> None:
    noisy = nn.Dropout(0.5).train()
    assert compare_answers(noisy, noisy, [torch.ones(100)]).largest == 0.0


def test_anything_beside_zero_differs_infinitely() -> None:
    assert math.isinf(compare_answers(always(torch.zeros(2)), always(torch.tensor([0.0, 1e-9])), [0]).largest)
