"""Contract tests that every importance score must pass."""

import pytest
import torch

from paretta.pipelines.importance import Importance, Rows


class ImportanceContract:
    """Override the fixture `importance`."""

    @pytest.fixture
    def importance(self) -> Importance:
        """Return the score under test."""
        raise NotImplementedError("override the fixture `importance`")

    def test_one_finite_non_negative_score_per_row(self, importance: Importance) -> None:
        for out in (1, 2, 12):
            scores = importance.scores(rows(out=out))
            assert scores.shape == (out,)
            assert bool(torch.isfinite(scores).all())
            assert bool((scores >= 0).all())

    def test_rows_of_zeros_stay_finite(self, importance: Importance) -> None:
        nothing = torch.zeros(3, 4)
        zeros = Rows(nothing, nothing, torch.Generator().manual_seed(0), nothing, *[nothing[:, 0]] * 3)
        assert bool(torch.isfinite(importance.scores(zeros)).all())

    def test_single_weights_are_scored_like_rows(self, importance: Importance) -> None:
        scores = importance.weight_scores(rows())
        assert (scores is not None) == importance.scores_weights()
        if scores is None:
            return
        assert scores.shape == (12, 7)
        assert bool(torch.isfinite(scores).all())
        assert bool((scores >= 0).all())
        if not importance.is_drawn:
            order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
            again = importance.weight_scores(rows(order=order))
            assert again is not None
            assert torch.allclose(again, scores[order], atol=1e-6)

    def test_renumbering_the_rows_renumbers_the_scores(self, importance: Importance) -> None:
        if importance.is_drawn:
            equal = torch.equal(importance.scores(rows()), importance.scores(rows()))
            assert equal, "equal generators give equal draws"
            return
        order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
        assert torch.allclose(importance.scores(rows(order=order)), importance.scores(rows())[order], atol=1e-6)

    def test_the_rows_are_left_alone(self, importance: Importance) -> None:
        given = rows()
        before = given.weight.clone(), given.gradient.clone()
        importance.scores(given)
        assert torch.equal(given.weight, before[0])
        assert torch.equal(given.gradient, before[1])


def rows(*, out: int = 12, fan_in: int = 7, order: torch.Tensor | None = None) -> Rows:
    """Return random rows [out, fan_in] with every statistic that a data pass provides, in the given order."""
    generator = torch.Generator().manual_seed(0)
    weight, gradient = torch.randn(out, fan_in, generator=generator), torch.randn(out, fan_in, generator=generator)
    absolute, activity, scale = gradient.abs() * 2, weight.abs().sum(1), gradient.abs().sum(1)
    i = torch.arange(out) if order is None else order
    drawn = torch.Generator().manual_seed(1)
    gate = (weight * gradient).sum(1).abs()
    return Rows(weight[i], gradient[i], drawn, absolute[i], activity[i], scale[i], gate[i])
