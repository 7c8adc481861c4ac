"""Metrics of torchmetrics, as they are, give what independent formulas give; skipped where it is not installed."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines.integrations.torchmetrics import collection_metrics
from paretta.pipelines.losses.metric_scores import SplitScore, scores_by
from paretta.pipelines.task import Metric, Task

pytestmark = pytest.mark.filterwarnings("ignore:Metric `:UserWarning")  # that it collects its arguments
Arguments = Callable[[Any, Any], Sequence[Any]]


class Member:
    """As much of a metric of torchmetrics as `collection_metrics` looks at."""

    def __init__(self, higher_is_better: bool | None, low: float | None, high: float | None) -> None:
        self.higher_is_better, self.plot_lower_bound, self.plot_upper_bound = higher_is_better, low, high


def test_members_of_a_collection_keep_their_direction() -> None:
    members = {"f1": Member(True, 0.0, 1.0), "error": Member(False, 0.0, None), "wer": Member(False, 0.0, 1.0)}
    found = collection_metrics(members)
    assert {name: (metric.goal, metric.unit) for name, metric in found.items()} == {
        "f1": ("max", "share"),
        "error": ("min", "points"),
        "wer": ("min", "points"),  # more words can be wrong than there are
    }
    assert found["f1"].score is members["f1"]


def scored(metric: Any, batches: Sequence[tuple[Any, Any]], arguments: Arguments | None = None) -> SplitScore:
    data = TensorDataset(torch.zeros(1, 1), torch.zeros(1))
    task = Task(nn.Identity(), data, data, data, nn.functional.mse_loss, {}, torch.zeros(1, 1))
    taker = scores_by(Metric(metric, unit="points", arguments=arguments), task)
    for outputs, targets in batches:
        taker.update(outputs, targets)
    return taker.scored()


def split(*shape: int, classes: int) -> list[tuple[Tensor, Tensor]]:
    """Three batches of outputs [n, classes, ...] and labels [n, ...]."""
    generator = torch.Generator().manual_seed(0)
    sizes = (64, 64, 17)
    labels = [torch.randint(0, classes, (size, *shape), generator=generator) for size in sizes]
    outputs = [torch.randn(size, classes, *shape, generator=generator) for size in sizes]
    return list(zip(outputs, labels, strict=True))


def joined(batches: Sequence[tuple[Tensor, Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    return torch.cat([first for first, _ in batches]).numpy(), torch.cat([second for _, second in batches]).numpy()


def require(found: SplitScore, expected: float) -> None:
    """The value is as expected, and the resamples lie around it."""
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert len(found.resampled) >= 30
    assert np.isfinite(found.resampled).all()
    assert abs(found.resampled.mean() - expected) < 2 * found.resampled.std() + 1e-9


def test_macro_f1_is_scikit_learns() -> None:
    tm = pytest.importorskip("torchmetrics")
    batches = split(classes=4)
    outputs, labels = joined(batches)
    expected = f1_score(labels, outputs.argmax(1), average="macro")
    require(scored(tm.F1Score("multiclass", num_classes=4, average="macro"), batches), expected)


def test_auroc_is_scikit_learns() -> None:
    tm = pytest.importorskip("torchmetrics")
    batches = split(classes=4)
    outputs, labels = joined(batches)
    shares = torch.from_numpy(outputs).softmax(1).numpy()
    expected = roc_auc_score(labels, shares, multi_class="ovr", average="macro")
    require(scored(tm.AUROC("multiclass", num_classes=4), batches), expected)


def test_spearman_is_scipys() -> None:
    tm = pytest.importorskip("torchmetrics")
    batches = [(outputs[:, 0], outputs[:, 0] + outputs[:, 1]) for outputs, _ in split(classes=2)]
    expected = float(spearmanr(*joined(batches)).statistic)
    require(scored(tm.SpearmanCorrCoef(), batches), expected)


def test_perplexity_is_the_exponent_of_the_mean_cross_entropy_of_what_counts() -> None:
    text = pytest.importorskip("torchmetrics.text")
    batches = [(outputs.transpose(1, 2), labels) for outputs, labels in split(7, classes=11)]
    for _, labels in batches:
        labels[::2, 5:] = -100
    outputs, labels = (torch.from_numpy(array) for array in joined(batches))
    expected = float(nn.functional.cross_entropy(outputs.double().flatten(0, 1), labels.flatten()).exp())
    require(scored(text.Perplexity(ignore_index=-100), batches), expected)


def test_word_error_rate_counts_words() -> None:
    text = pytest.importorskip("torchmetrics.text")
    said = torch.tensor([[1, 2, 3], [3, 3, 1], [1, 1, 1], [2, 2, 2], [2, 3, 1]])
    heard = torch.tensor([[1, 2, 3], [3, 2, 1], [1, 1, 1], [2, 2, 2], [3, 3, 1]])  # two of fifteen are wrong

    def words(outputs: Tensor, targets: Tensor) -> tuple[list[str], list[str]]:
        return [" ".join(map(str, row)) for row in outputs.tolist()], [
            " ".join(map(str, row)) for row in targets.tolist()
        ]

    found = scored(text.WordErrorRate(), [(heard[:2], said[:2]), (heard[2:], said[2:])], words)
    assert found.value == pytest.approx(2 / 15)
    assert len(found.resampled) >= 30


def test_intersection_over_union_is_a_count_of_pixels() -> None:
    tm = pytest.importorskip("torchmetrics")
    batches = split(8, 8, classes=3)
    outputs, labels = joined(batches)
    found = outputs.argmax(1)
    shares = [((found == k) & (labels == k)).sum() / ((found == k) | (labels == k)).sum() for k in range(3)]
    require(scored(tm.JaccardIndex("multiclass", num_classes=3), batches), float(np.mean(shares)))


def test_peak_signal_to_noise_is_that_of_the_mean_squared_error() -> None:
    image = pytest.importorskip("torchmetrics.image")
    batches = [(outputs.sigmoid(), outputs.cos().abs()) for outputs, _ in split(8, 8, classes=3)]
    outputs, targets = joined(batches)
    expected = -10 * np.log10(((outputs.astype(np.float64) - targets) ** 2).mean())
    require(scored(image.PeakSignalNoiseRatio(data_range=1.0), batches), float(expected))


def test_each_member_of_a_real_collection_is_a_metric() -> None:
    tm = pytest.importorskip("torchmetrics")
    made = tm.MetricCollection([tm.Accuracy("multiclass", num_classes=4), tm.MeanSquaredError()])
    found = collection_metrics(made)
    assert {name: (metric.goal, metric.unit) for name, metric in found.items()} == {
        "MulticlassAccuracy": ("max", "share"),
        "MeanSquaredError": ("min", "points"),
    }
    outputs, labels = joined(split(classes=4))
    right = float((outputs.argmax(1) == labels).mean())
    require(scored(found["MulticlassAccuracy"].score, split(classes=4)), right)
