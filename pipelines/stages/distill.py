"""Train the model to reproduce the outputs of the uncompressed one (knowledge distillation)."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from math import prod
from typing import Literal, TypeAlias, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.data.samples import num_samples
from paretta.pipelines.data.trees import TensorTree, call_model, moved
from paretta.pipelines.losses.class_scores import class_axis, counted, divergence, masked_mean
from paretta.pipelines.model.feature_distance import FeaturePairs
from paretta.pipelines.stage import Shape, Stage
from paretta.pipelines.task import Task
from paretta.pipelines.training.batch import Batch, BatchLoss
from paretta.pipelines.training.evaluate import split_scores
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit, task_loss
from paretta.search_spaces.errors import Problem, WrongInput

Ask: TypeAlias = Callable[[Batch], Tensor]

# a larger table of the teacher's scores is not stored: the teacher runs on each batch instead
MAX_TABLE_BYTES = 2**30


class Distill(TrainSettings, Stage):
    """Train on a mixture of the task's loss and the divergence from the teacher's softened class scores.

    ``(1 - weight) task loss + weight T^2 KL(teacher || model)`` (Hinton, Vinyals and Dean, 2015); with `features` also
    ``feature_weight`` times the relative squared distance between the outputs of named layers (Romero et al., 2015).

    A dataset that augments at random shows another view in each epoch. By default the teacher is asked once about each
    sample, about one view; with `consistent` it answers for the view that the model sees (Beyer et al., 2022,
    "Knowledge distillation: a good teacher is patient and consistent"), which costs a pass of the teacher per epoch.
    """

    kind: Literal["distill"] = "distill"
    temperature: float = Field(default=4.0, gt=0, le=100, description="the softening of the class scores, such as 4")
    weight: float = Field(default=0.5, gt=0, le=1, description="the teacher's share of the loss, such as 0.5")
    features: dict[str, str] = Field(
        default={}, description="layers whose outputs shall agree, {model's: teacher's}, such as {conv2: conv2}"
    )
    feature_weight: float = Field(default=1.0, gt=0, description="the weight of the features' distance, such as 1")
    consistent: bool = Field(
        default=False, description="true to ask the teacher about each augmented view, not once about each sample"
    )

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model`, trained in place."""
        teacher = _teacher(bench)
        pairs = FeaturePairs(model, teacher, self.features, bench) if self.features else None
        loss = distillation_loss(bench, self, pairs)
        with pairs or nullcontext():
            fit(model, bench, self, loss=loss, beside=pairs.projections if pairs else None)
        return model

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Report a `distill` stage in the baseline, which is the teacher and has none itself."""
        if in_baseline:
            return "needs a teacher, which the baseline itself does not have; move it to the stages after it"
        return None

    @property
    def shape(self) -> Shape:
        """Only values change."""
        return "kept"

    def words(self) -> str:
        """Describe the stage: epochs, temperature and weight."""
        of = f", features of {', '.join(self.features)}" if self.features else ""
        how = f"at temperature {self.temperature:.3g}, weight {self.weight:.2g}{of}"
        return f"distill {self.epochs_in_words()} {how}{self.tweaks_in_words()}"


def soft_divergence(
    scores: Tensor, teacher_scores: Tensor, temperature: float, *, axis: int = 1, mask: Tensor | None = None
) -> Tensor:
    """Return ``T^2 KL(softmax(teacher / T) || softmax(scores / T))``, the mean over all positions in `mask`.

    The factor T^2 keeps the gradient's magnitude independent of the temperature (Hinton, Vinyals and Dean, 2015,
    section 2).

    Args:
        scores: [n, ...] of the model in training, classes on `axis`; -inf for a class that the model rules out.
        teacher_scores: the same shape.
        temperature: T > 0.
        axis: of the classes.
        mask: True for positions that count, shaped like the scores without the class axis; None for all positions.

    >>> float(soft_divergence(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]), 3.0))
    0.0
    """
    gaps = divergence(teacher_scores / temperature, scores / temperature, axis)
    return masked_mean(gaps, mask) * temperature**2


def distillation_loss(bench: Bench, settings: Distill, pairs: FeaturePairs | None = None) -> BatchLoss:
    """Return the loss of `settings` for `paretta.pipelines.training.train.fit` (collective).

    The teacher's scores are computed once per training sample, unless there are feature pairs or `consistent` is set.
    Labels that the task ignores are left out of both terms.
    """
    task = bench.task
    ask = _cheapest(bench, live=settings.consistent or pairs is not None)
    hard_loss, weight = task_loss(bench, settings), settings.weight

    def loss(outputs: TensorTree, batch: Batch) -> Tensor:
        class_scores = task.scores_of(outputs)
        axis = class_axis(task, class_scores.shape, batch.targets, where="distill")
        mask = counted(task, batch.targets)
        gap = soft_divergence(class_scores, ask(batch), settings.temperature, axis=axis, mask=mask)
        soft = gap * batch.shares.labels
        whole = (1 - weight) * hard_loss(outputs, batch) + weight * soft if weight < 1 else soft
        return whole if pairs is None else whole + settings.feature_weight * pairs.distance() * batch.shares.samples

    return loss


def _cheapest(bench: Bench, *, live: bool) -> Ask:
    """Look up the teacher's scores in a table, or compute them per batch: if `live`, or if no table can hold them."""
    teacher = _teacher(bench)
    task = bench.task
    inputs, targets = task.batch(task.train, torch.arange(1))
    with torch.no_grad():
        outputs = call_model(teacher.to(bench.ranks.device).eval(), moved(inputs, bench.ranks.device))
    shape = task.scores_of(outputs).shape
    class_axis(task, shape, targets, where="distill")
    is_large = num_samples(task.train) * prod(shape[1:]) * 4 > MAX_TABLE_BYTES
    if live or task.stream is not None or task.free_axes or task.collate is not None or is_large:
        return _live(teacher, task)
    table = teacher_scores(bench).to(bench.ranks.device)
    return lambda batch: table[batch.indices.to(table.device)]


def _live(teacher: nn.Module, task: Task) -> Ask:
    def ask(batch: Batch) -> Tensor:
        with torch.no_grad():
            return task.scores_of(call_model(teacher, batch.inputs)).float()

    return ask


def teacher_scores(bench: Bench) -> Tensor:
    """Return the teacher's scores on the train split, [n, classes, ...], computed once per teacher (collective).

    Each rank computes its shard. The scores are kept in the bench's cache, shared by all trials with this teacher.
    """
    teacher, key = _teacher(bench), f"teacher-{bench.teacher_key}"
    if not bench.teacher_key:
        return split_scores(teacher, bench.task, bench.ranks, "train", bench.loaders)
    with bench.sharing(key) as known:
        if known is not None:
            return cast(Tensor, known["scores"])
        scores = split_scores(teacher, bench.task, bench.ranks, "train", bench.loaders)
        bench.cache.store(key, {"scores": scores}, write=bench.ranks.is_first)
        return scores


def _teacher(bench: Bench) -> nn.Module:
    if bench.teacher is None:
        hint = "move it from `baseline` to the stages after it"
        raise WrongInput(Problem("distill", "needs a teacher, which the baseline itself does not have", None, hint))
    return bench.teacher
