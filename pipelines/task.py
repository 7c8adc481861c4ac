"""A task: the model, data, loss and metrics that a user brings, made by a function of their own."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn

from paretta.pipelines.samples import Collate, Samples, num_samples, take
from paretta.pipelines.stream import Stream
from paretta.pipelines.trees import TensorTree, as_inputs, mapped, num_rows, tensors
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.objectives.objective import Goal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_ROUNDING: Final = 1e-6
_LABELS: Final = ("labels", "label", "targets", "target")  # what a batch that is a mapping may call its labels


@dataclass(frozen=True, slots=True)
class Metric:
    """How good outputs are.

    Args:
        score: ``score(outputs, targets)``, on the CPU, gives one score for each sample [n], whose mean is the reading
            and whose spread its interval, or one number for the whole split, whose interval is a bootstrap over
            samples. Or an object with ``update``, ``compute`` and ``reset``, such as a metric of torchmetrics.
        goal: whether more is better.
        unit: of the score, such as ``share``.
        arguments: ``arguments(outputs, targets)`` gives what ``update`` is called with; by default class scores and
            labels, see `Task.class_scores` and `Task.labels`.
    """

    score: Callable[[Any, Any], Any] | Any
    goal: Goal = "max"
    unit: str = "share"
    arguments: Callable[[Any, Any], Sequence[Any]] | None = None

    def scores(self, outputs: TensorTree, targets: TensorTree) -> Tensor:
        """Return what the function `score` gives, as float64, [n] or one number; it may change what it is given.

        A score of -inf rules a class out; other outputs must be finite.

        Raises:
            WrongInput: the outputs are not numbers, or what comes back is neither one score for each sample nor one
                for all, or a share that is not between 0 and 1.
        """
        count = num_rows(outputs)
        if wrong := _num_strange(outputs, count):
            rule = "the model's answers must be numbers, or -inf for a class that it rules out"
            raise WrongInput(Problem("answers", rule, f"nan or inf for {wrong} of {count} samples"))
        found = self.score(_copied(outputs), _copied(targets))
        try:
            scores = torch.as_tensor(found).detach().double()
        except (TypeError, ValueError, RuntimeError):
            rule = f"must give {count} scores or one number"
            raise WrongInput(Problem("scores", rule, type(found).__name__)) from None
        if scores.dim() > 0 and scores.shape != (count,):
            raise WrongInput(Problem("scores", f"must give {count} scores or one number", str(list(scores.shape))))
        return self.checked(scores)

    def checked(self, scores: Tensor) -> Tensor:
        """Return `scores`. Raises `WrongInput` where the unit is a share and they are not between 0 and 1."""
        if self.unit == "share" and bool(((scores < -_ROUNDING) | (scores > 1 + _ROUNDING)).any()):
            ends = f"{float(scores.min()):.4g} to {float(scores.max()):.4g}"
            mend = "divide it by its largest value, or give the metric its own unit: Metric(score, unit='points')"
            raise WrongInput(Problem("scores", "a share lies between 0 and 1", ends, mend))
        return scores


def _num_strange(outputs: TensorTree, count: int) -> int:
    """Count the samples with an answer that is nan or inf."""
    strange = torch.zeros(count, dtype=torch.bool)
    for tensor in tensors(outputs):
        if tensor.is_floating_point() and tensor.shape[:1] == (count,):
            strange |= (tensor.isnan() | (tensor == torch.inf)).reshape(count, -1).any(1)
    return int(strange.sum())


def _copied(tree: TensorTree) -> TensorTree:
    return mapped(Tensor.clone, tree)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is compressed, and what it is measured by.

    A sample is a pair (input, target), or several inputs and then the target, or a mapping or dataclass. Of a mapping,
    the model is called with the entries that `example_input` names, and loss and metrics are given the whole batch in
    the place of targets.

    Args:
        model: a function that makes an untrained model, or a (pretrained) model, which is copied, never changed.
        train: samples that models are trained on; a map-style dataset with a length.
        validation: samples that candidates are compared on.
        test: samples that are read once, for the models chosen.
        loss: ``loss(outputs, targets)`` gives the mean over the batch, a differentiable scalar.
        metrics: by name; the names are objectives of a sweep.
        example_input: what the model is called with for one sample, tensors with their batch axis, [1, ...]: a tensor,
            a tuple for ``model(*inputs)``, a mapping for ``model(**inputs)``, or a `ModelInputs` for both.
        variants: other models for the same data, by name, that the stage `student` may choose from; functions may take
            keyword arguments, such as a width.
        source: pairs of the task that parameters were transferred from, in the same form, for the tweak `replay`.
        stream: the whole training split, where no machine holds it; `train` then is a sample of it, a few thousand
            pairs that calibrations, sensitivities and checks look at. See `paretta.pipelines.stream`.
        class_axis: the axis of the outputs that holds one score for each class, such as -1 of [n, tokens, classes]. By
            default 1 of [n, classes], else the one axis that class labels lack; where two may be it, it must be given.
        ignore_label: the class label of what is left out of every loss, such as padding; by default -100, which torch's
            losses leave out. It must be the one that `loss` leaves out; None where every label counts.
        data_id: names the data, where its samples are not alike in any two readings even though torch, numpy and random
            are seeded; it must be another one whenever the data changes.
        collate: makes a batch of a list of samples, as torch's DataLoader has it; by default `default_collate`.
        free_axes: axes other than the first that may vary, by input and axis, such as ``{"input_ids": {1: "tokens"}}``,
            or ``{1: ("tokens", 1, 512)}`` with bounds. Axes of one name have one length.
        calibration: inputs, or samples, that statistics are taken on instead of training samples; they need no labels.
        training_inputs: entries of a batch that the model is called with in training only, such as ``labels`` where the
            model computes its own loss.
        class_scores: ``class_scores(outputs)`` gives the class scores of outputs that are no tensor; by default their
            ``logits``, else their first tensor.
    """

    model: nn.Module | Callable[[], nn.Module]
    train: Samples
    validation: Samples
    test: Samples
    loss: Callable[[Any, Any], Tensor]
    metrics: Mapping[str, Metric]
    example_input: TensorTree
    variants: Mapping[str, nn.Module | Callable[..., nn.Module]] = field(default_factory=dict)
    source: "Samples | None" = None
    stream: Stream | None = None
    class_axis: int | None = None
    ignore_label: int | None = -100
    data_id: str | None = None
    collate: Collate | None = None
    free_axes: Mapping[str, Mapping[int, str | tuple[str, int, int]]] = field(default_factory=dict)
    calibration: "Samples | None" = None
    training_inputs: tuple[str, ...] = ()
    class_scores: Callable[[Any], Tensor] | None = None

    @property
    def num_train(self) -> int:
        """How many samples an epoch of training is."""
        return num_samples(self.train) if self.stream is None else self.stream.num_samples

    def new_model(self) -> nn.Module:
        """Return a fresh model; its random start follows torch's seed."""
        if isinstance(self.model, nn.Module):
            return deepcopy(self.model)
        return self.model()

    def split(self, name: Split) -> Samples:
        """Return the dataset called `name`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def batch(
        self, dataset: Samples, indices: Tensor, *, training: bool = False, name: str = "data"
    ) -> tuple[TensorTree, TensorTree]:
        """Return inputs and targets of the samples at `indices` [n].

        Args:
            dataset: one of the task's.
            indices: [n].
            training: whether the model trains, and is called with `training_inputs` too.
            name: the dataset's, for messages.

        Raises:
            WrongInput: a sample cannot be read, or the samples make no batch.
        """
        return self.parts(take(dataset, indices, self.collate, name=name), training=training)

    def parts(self, batch: TensorTree, *, training: bool = False) -> tuple[TensorTree, TensorTree]:
        """Return inputs and targets of a batch."""
        if isinstance(batch, Mapping):
            named = as_inputs(self.example_input).kwargs
            names = [*named, *(self.training_inputs if training else ())]
            return {name: batch[name] for name in names}, batch
        if isinstance(batch, tuple | list):
            *inputs, targets = batch
            return (inputs[0] if len(inputs) == 1 else tuple(inputs)), targets
        return batch, None

    def calibration_inputs(self, indices: Tensor) -> TensorTree:
        """Return the inputs at `indices` [n] of the samples that statistics are taken on, see `statistics_samples`."""
        batch = take(self.statistics_samples, indices, self.collate)
        has_targets = self.calibration is None or not isinstance(batch, tuple | list)
        if has_targets or len(batch) != len(as_inputs(self.example_input).args):
            return self.parts(batch)[0]
        return batch[0] if len(batch) == 1 else tuple(batch)

    @property
    def statistics_samples(self) -> Samples:
        """The samples that statistics are taken on: `calibration`, by default the training split."""
        return self.train if self.calibration is None else self.calibration

    def scores_of(self, outputs: TensorTree) -> Tensor:
        """Return the class scores, or the first tensor, of a model's outputs."""
        if self.class_scores is not None:
            return self.class_scores(outputs)
        if isinstance(outputs, Tensor):
            return outputs
        named = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
        return named if isinstance(named, Tensor) else tensors(outputs)[0]

    def labels_of(self, targets: TensorTree) -> Tensor | None:
        """Return the class labels, or other targets, of a batch; None where none of its entries is called so."""
        if isinstance(targets, Tensor):
            return targets
        if isinstance(targets, Mapping):
            return next((targets[name] for name in _LABELS if isinstance(targets.get(name), Tensor)), None)
        return None
