"""Compute a metric of a split batch by batch, with an interval."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paretta.pipelines.task import Metric, Task
from paretta.pipelines.trees import TensorTree, joined, mapped, num_rows, tree_rows
from paretta.search_spaces.errors import Problem, WrongInput

_RESAMPLES = 100  # resamples of the bootstrap over samples
_COPIES = 40  # copies of a metric with `update`, each with its own resample of the samples


@dataclass(frozen=True, slots=True)
class SplitScore:
    """A metric's score of a split.

    Args:
        value: the score; the mean if there is one per sample.
        num_samples: number of samples scored.
        each: the score of each sample, [n]; None if the metric gives one number for all.
        resampled: the scores of resampled splits, [r], for a bootstrap interval; empty if not requested.
    """

    value: float
    num_samples: int
    each: NDArray[np.float64] | None
    resampled: NDArray[np.float64]


class MetricScores(ABC):
    """Accumulates a metric over the batches of one split; made by `scores_by`."""

    num_samples = 0

    def update(self, outputs: TensorTree, targets: TensorTree) -> None:
        """Add a batch of outputs and targets, on the CPU; the metric gets copies, which it may modify."""
        self.num_samples += num_rows(outputs)
        self._take(outputs, targets)

    @abstractmethod
    def scored(self) -> SplitScore:
        """Return the metric's score of all batches."""

    @abstractmethod
    def _take(self, outputs: TensorTree, targets: TensorTree) -> None: ...


def scores_by(metric: Metric, task: Task, *, resamples: bool = True) -> MetricScores:
    """Return an accumulator for `metric`; `resamples` says whether an interval is needed."""
    if hasattr(metric.score, "update") and hasattr(metric.score, "compute"):
        return _Updated(metric, task, _COPIES if resamples else 0)
    return _Called(metric, _RESAMPLES if resamples else 0)


class _Called(MetricScores):
    """A metric that is a function. Scores per sample are collected; for a single number all outputs are kept."""

    def __init__(self, metric: Metric, num_resamples: int) -> None:
        self._metric, self._num_resamples = metric, num_resamples
        self._each: list[Tensor] = []
        self._kept: list[tuple[TensorTree, TensorTree]] = []

    def _take(self, outputs: TensorTree, targets: TensorTree) -> None:
        scores = self._metric.scores(outputs, targets)
        if (scores.dim() == 1 and self._kept) or (scores.dim() == 0 and self._each):
            raise WrongInput(Problem("scores", "must be one for each sample in every batch, or one number in every"))
        if scores.dim() == 1:
            self._each.append(scores)
        else:
            self._kept.append((outputs, targets))

    def scored(self) -> SplitScore:
        if self._each:
            each = torch.cat(self._each).numpy()
            return SplitScore(float(each.mean()), len(each), each, np.empty(0))
        outputs, targets = (joined(parts) for parts in zip(*self._kept, strict=True))
        rng, count = np.random.default_rng(0), self._num_resamples if self.num_samples > 1 else 0
        drawn = [torch.from_numpy(rng.integers(self.num_samples, size=self.num_samples)) for _ in range(count)]
        resampled = [
            float(self._metric.scores(tree_rows(outputs, index), tree_rows(targets, index))) for index in drawn
        ]
        return SplitScore(float(self._metric.scores(outputs, targets)), self.num_samples, None, np.array(resampled))


class _Updated(MetricScores):
    """A metric with a state, such as one of torchmetrics; its interval comes from a Poisson bootstrap over samples.

    Each copy sees every sample a number of times drawn from a Poisson distribution with mean 1 (Chamandy et al., 2012),
    so that no outputs need to be kept.
    """

    def __init__(self, metric: Metric, task: Task, num_copies: int) -> None:
        self._arguments = metric.arguments or (lambda outputs, targets: _default_arguments(task, outputs, targets))
        self._checked = metric.checked
        self._metric = cast(Any, deepcopy(metric.score))
        self._metric.reset()
        self._copies: list[Any] = [deepcopy(self._metric) for _ in range(num_copies)]
        self._rng = np.random.default_rng(0)

    def _take(self, outputs: TensorTree, targets: TensorTree) -> None:
        count, arguments = num_rows(outputs), tuple(self._arguments(outputs, targets))
        self._metric.update(*_copied(arguments))
        for copy in self._copies:
            index = np.repeat(np.arange(count), self._rng.poisson(size=count))
            if len(index):
                copy.update(*_resampled(arguments, index))

    def scored(self) -> SplitScore:
        resampled = [float(copy.compute()) for copy in self._copies]
        value = self._checked(torch.as_tensor(self._metric.compute()).double())
        return SplitScore(float(value), self.num_samples, None, np.array(resampled))


def _default_arguments(task: Task, outputs: TensorTree, targets: TensorTree) -> tuple[TensorTree, TensorTree]:
    labels = task.labels_of(targets)
    return task.scores_of(outputs), targets if labels is None else labels


def _resampled(arguments: Sequence[TensorTree], index: NDArray[np.intp]) -> tuple[TensorTree, ...]:
    """Return the same arguments for resampled samples: rows of tensors, items of lists."""
    places = torch.from_numpy(index)
    return tuple(
        [argument[at] for at in index] if isinstance(argument, list) else tree_rows(argument, places)
        for argument in arguments
    )


def _copied(tree: TensorTree) -> TensorTree:
    return mapped(lambda tensor: tensor.detach().clone(), tree)
