"""What every importance score must hold to, tested on whatever is registered."""

import pytest
import torch

from paretta.pipelines.importance import Importance, Rows
from paretta.search_spaces.registry import IMPORTANCES

NAMES = IMPORTANCES.names()


def importance(name: str) -> Importance:
    found = IMPORTANCES.load(name)
    assert isinstance(found, type)
    assert issubclass(found, Importance)
    return found()


def rows(*, out: int = 12, fan_in: int = 7, order: torch.Tensor | None = None) -> Rows:
    generator = torch.Generator().manual_seed(0)
    weight, gradient = torch.randn(out, fan_in, generator=generator), torch.randn(out, fan_in, generator=generator)
    absolute, activity, scale = gradient.abs() * 2, weight.abs().sum(1), gradient.abs().sum(1)
    i = torch.arange(out) if order is None else order
    drawn = torch.Generator().manual_seed(1)
    gate = (weight * gradient).sum(1).abs()
    return Rows(weight[i], gradient[i], drawn, absolute[i], activity[i], scale[i], gate[i])


@pytest.mark.parametrize("name", NAMES)
class TestImportance:
    def test_one_finite_non_negative_score_per_row(self, name: str) -> None:
        for out in (1, 2, 12):
            scores = importance(name).scores(rows(out=out))
            assert scores.shape == (out,)
            assert bool(torch.isfinite(scores).all())
            assert bool((scores >= 0).all())

    def test_rows_of_zeros_stay_finite(self, name: str) -> None:
        nothing = torch.zeros(3, 4)
        zeros = Rows(nothing, nothing, torch.Generator().manual_seed(0), nothing, *[nothing[:, 0]] * 3)
        assert bool(torch.isfinite(importance(name).scores(zeros)).all())

    def test_single_weights_are_scored_like_rows(self, name: str) -> None:
        scores = importance(name).weight_scores(rows())
        assert (scores is not None) == importance(name).scores_weights()
        if scores is None:
            return
        assert scores.shape == (12, 7)
        assert bool(torch.isfinite(scores).all())
        assert bool((scores >= 0).all())
        if not importance(name).is_drawn:
            order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
            again = importance(name).weight_scores(rows(order=order))
            assert torch.allclose(again, scores[order], atol=1e-6)

    def test_renumbering_the_rows_renumbers_the_scores(self, name: str) -> None:
        score = importance(name)
        if score.is_drawn:
            assert torch.equal(score.scores(rows()), score.scores(rows())), "equal generators give equal draws"
            return
        order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
        assert torch.allclose(score.scores(rows(order=order)), score.scores(rows())[order], atol=1e-6)

    def test_the_rows_are_left_alone(self, name: str) -> None:
        given = rows()
        before = given.weight.clone(), given.gradient.clone()
        importance(name).scores(given)
        assert torch.equal(given.weight, before[0])
        assert torch.equal(given.gradient, before[1])

    def test_its_file_says_what_it_is(self, name: str) -> None:
        assert len(IMPORTANCES.describe(name)) > 10
