"""The perplexity of a language model, as a metric of a task."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from paretta.pipelines.data.trees import TensorTree
from paretta.pipelines.task import Metric


class Perplexity:
    """The exponential of the mean loss of a token, in nats; lower is better."""

    higher_is_better = False

    def __init__(self) -> None:
        """Begin with none."""
        self.reset()

    def reset(self) -> None:
        """Forget all tokens."""
        self.loss, self.tokens = 0.0, 0

    def update(self, losses: Tensor, counts: Tensor) -> None:
        """Add the summed loss and the number of tokens of each sample, both [n]."""
        self.loss += float(losses.double().sum())
        self.tokens += int(counts.sum())

    def compute(self) -> float:
        """Return the perplexity.

        >>> metric = Perplexity()
        >>> metric.update(torch.tensor([0.0, 2.0]), torch.tensor([1, 1]))
        >>> round(metric.compute(), 3)
        2.718
        """
        return float(torch.tensor(self.loss / self.tokens).exp()) if self.tokens else float("nan")


def perplexity(*, ignore_label: int = -100) -> Metric:
    """Return the metric ``exp(sum of token losses / number of tokens)`` over a split, with an interval over samples.

    A model answers scores [n, tokens, vocabulary], as a tensor or as ``logits`` of a mapping; targets are labels
    [n, tokens], the token after each, as a tensor or as ``labels`` of a mapping.

    Args:
        ignore_label: tokens with this label are left out, such as padding.
    """

    def losses(outputs: TensorTree, targets: TensorTree) -> tuple[Tensor, Tensor]:
        return token_losses(outputs, targets, ignore_label=ignore_label)

    return Metric(Perplexity(), "min", "", losses)


def token_losses(outputs: TensorTree, targets: TensorTree, *, ignore_label: int = -100) -> tuple[Tensor, Tensor]:
    """Return the summed loss in nats and the number of counted tokens of each sample, both [n].

    >>> scores, labels = torch.zeros(1, 3, 4), torch.tensor([[0, 2, -100]])
    >>> [round(float(part), 3) for part in token_losses(scores, labels)]  # two tokens of four equally likely ones
    [2.773, 2.0]
    """
    scores = outputs["logits"] if isinstance(outputs, Mapping) else outputs
    labels = targets["labels"] if isinstance(targets, Mapping) else targets
    losses = F.cross_entropy(scores.mT, labels, reduction="none", ignore_index=ignore_label)
    return losses.sum(1), (labels != ignore_label).sum(1)
