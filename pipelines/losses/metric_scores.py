"""Compute a metric of a split batch by batch, with an interval."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paretta.pipelines.data.trees import TensorTree, joined, mapped, num_rows, tree_rows
from paretta.pipelines.task import Metric, Task
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
    so that no outputs need to be kept. If the metric itself keeps what it is given, as an exact AUROC does, the copies
    would keep it as often as there are copies: then it is kept here once, and the copies are computed one by one.
    """

    def __init__(self, metric: Metric, task: Task, num_copies: int) -> None:
        self._arguments = metric.arguments or (lambda outputs, targets: _default_arguments(task, outputs, targets))
        self._checked = metric.checked
        self._metric = cast(Any, deepcopy(metric.score))
        self._metric.reset()
        self._empty = deepcopy(self._metric)
        self._resamples = [_Resample(deepcopy(self._metric), seed) for seed in range(num_copies)]
        self._kept: list[tuple[TensorTree, ...]] | None = None

    def _take(self, outputs: TensorTree, targets: TensorTree) -> None:
        is_first = self.num_samples == num_rows(outputs)
        arguments = tuple(self._arguments(outputs, targets))
        self._metric.update(*_copied(arguments))
        if is_first and self._resamples and _keeps_samples(self._metric):
            self._kept = []
        if self._kept is not None:
            self._kept.append(_copied(arguments))
            return
        for resample in self._resamples:
            resample.update(arguments, num_rows(outputs))

    def scored(self) -> SplitScore:
        value = self._checked(one_number(self._metric.compute()))
        return SplitScore(float(value), self.num_samples, None, np.array([*self._resampled()]))

    def _resampled(self) -> Iterator[float]:
        """Yield the score of each resample that has a sample."""
        for resample in self._resamples:
            score = resample.score() if self._kept is None else self._filled(resample.seed, self._kept).score()
            if score is not None:
                yield score

    def _filled(self, seed: int, kept: Sequence[tuple[TensorTree, ...]]) -> "_Resample":
        """Return a resample of all batches; it is not stored, so that only one is in memory."""
        resample = _Resample(deepcopy(self._empty), seed)
        for arguments in kept:
            resample.update(arguments, _num_samples_of(arguments))
        return resample


class _Resample:
    """A copy of a metric that sees each sample a random number of times."""

    def __init__(self, metric: Any, seed: int) -> None:
        self.metric, self.seed, self.num_samples = metric, seed, 0
        self._rng = np.random.default_rng([0, seed])

    def update(self, arguments: Sequence[TensorTree], count: int) -> None:
        """Add a batch of `count` samples."""
        index = np.repeat(np.arange(count), self._rng.poisson(size=count))
        if len(index):
            self.metric.update(*_resampled(arguments, index))
            self.num_samples += len(index)

    def score(self) -> float | None:
        """Return the metric's score, or None if no sample was drawn."""
        return float(one_number(self.metric.compute())) if self.num_samples else None


def one_number(found: object) -> Tensor:
    """Return what a metric's ``compute`` gave as one number of float64, [].

    Raises:
        WrongInput: it is no number, or several, such as one per class or per metric of a collection.
    """
    if isinstance(found, Mapping):
        hint = "paretta.integrations.torchmetrics.collection_metrics(collection) makes a metric of each"
        raise WrongInput(Problem("scores", "must be one number", [*map(str, found)], hint))
    try:
        number = torch.as_tensor(found).detach().double()
    except (TypeError, ValueError, RuntimeError):
        raise WrongInput(Problem("scores", "compute must give one number", type(found).__name__)) from None
    if number.numel() != 1:
        hint = "average over classes, such as average='macro'"
        raise WrongInput(Problem("scores", "compute must give one number, not an array", list(number.shape), hint))
    return number.reshape(())


def ignores_samples(metric: Metric, task: Task, outputs: TensorTree, targets: TensorTree) -> bool:
    """Return whether a metric with ``update`` is the same after some samples as after its ``reset``.

    One that counts errors may be so after correct answers; so those of other samples and other classes are tried too.
    """
    if not (hasattr(metric.score, "update") and hasattr(metric.score, "compute")):
        return False
    arguments = metric.arguments or (lambda found, wanted: _default_arguments(task, found, wanted))
    tried = cast(Any, deepcopy(metric.score))
    tried.reset()
    empty = deepcopy(tried)
    for change in (Tensor.clone, _next_sample, _last_class_first):
        tried.update(*_copied(tuple(arguments(mapped(change, outputs), targets))))
        if not _is_same(_state_of(tried), _state_of(empty)):
            return False
    return bool(_state_of(empty))


def _next_sample(output: Tensor) -> Tensor:
    return output.roll(1, 0) if output.dim() else output


def _last_class_first(output: Tensor) -> Tensor:
    return output.flip(-1) if output.dim() > 1 else output


def _state_of(metric: object) -> Mapping[str, object]:
    """Return what a metric keeps: the declared states of one of torchmetrics, otherwise its attributes."""
    declared = getattr(metric, "metric_state", None)
    return declared if isinstance(declared, Mapping) and declared else getattr(metric, "__dict__", {})


def _is_same(one: object, other: object) -> bool:
    """Compare two states by value; objects that cannot be compared differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other)


def _keeps_samples(metric: object) -> bool:
    """Return whether a metric collects its arguments in lists, judged after its first update."""
    return any(isinstance(state, list) and state for state in vars(metric).values())


def _num_samples_of(arguments: Sequence[TensorTree]) -> int:
    return next((len(part) for part in arguments if isinstance(part, list)), None) or num_rows(arguments)


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
