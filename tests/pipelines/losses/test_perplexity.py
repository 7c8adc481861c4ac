"""The perplexity is the exponential of the mean loss over all tokens of a split that count."""

import math

import pytest
import torch

from paretta.pipelines.losses.metric_scores import scores_by
from paretta.pipelines.losses.perplexity import perplexity, token_losses
from paretta.pipelines.task import Task
from paretta.pipelines.tasks.digits import make as digits


def expected(scores: torch.Tensor, labels: torch.Tensor, ignored: int) -> float:
    """In float64, token by token."""
    losses = [
        -row.log_softmax(0)[label].item()
        for row, label in zip(scores.double().flatten(0, 1), labels.flatten(), strict=True)
        if label != ignored
    ]
    return math.exp(sum(losses) / len(losses))


@pytest.mark.parametrize("ignored", [-100, 0])
def test_it_is_that_of_all_tokens_and_not_the_mean_over_batches(ignored: int) -> None:
    torch.manual_seed(0)
    scores, labels = 3 * torch.randn(7, 5, 11), torch.randint(0, 11, (7, 5))
    labels[2] = labels[3, 1:] = ignored  # samples of different numbers of tokens, one of none
    task: Task = digits(width=4, hidden=8)
    taker = scores_by(perplexity(ignore_label=ignored), task)
    for start in (0, 3):
        part = slice(start, start + 3 if start == 0 else None)
        taker.update({"logits": scores[part]}, {"labels": labels[part]})
    found = taker.scored()
    assert found.value == pytest.approx(expected(scores, labels, ignored), rel=1e-6)
    assert found.resampled.min() < found.value < found.resampled.max()


def test_tensors_alone_are_scores_and_labels() -> None:
    scores, labels = torch.zeros(2, 3, 8), torch.tensor([[1, 2, -100], [0, 0, 0]])
    losses, counts = token_losses(scores, labels)
    torch.testing.assert_close(losses, counts * math.log(8))
    assert counts.tolist() == [2, 3]


def test_lower_is_better() -> None:
    assert (perplexity().goal, perplexity().unit) == ("min", "")
