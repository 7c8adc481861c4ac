"""A task: the model, data, loss and metrics that a user provides through a function."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from paretta.pipelines.data.samples import Collate, Samples, num_samples, take
from paretta.pipelines.data.trees import TensorTree, as_inputs, call_model, mapped, num_rows, tensors
from paretta.pipelines.stream import Stream
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.objectives.objective import Goal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_ROUNDING: Final = 1e-6
_LABELS: Final = ("labels", "label", "targets", "target")  # what a batch that is a mapping may call its labels


@dataclass(frozen=True, slots=True)
class Metric:
    """A score of the model's outputs.

    Args:
        score: ``score(outputs, targets)``, called with tensors on the CPU, returns either one score per sample [n] or
            one number for the whole split. The reading of scores per sample is their mean, with an interval from their
            spread; the interval of one number is bootstrapped over samples. Alternatively an object with ``update``,
            ``compute`` and ``reset``, such as a metric of torchmetrics.
        goal: ``max`` if a higher score is better, otherwise ``min``.
        unit: of the score, such as ``share``; empty for a number without one.
        arguments: ``arguments(outputs, targets)`` returns the arguments of ``update``; by default class scores and
            labels, see `Task.class_scores` and `Task.labels`.
    """

    score: Callable[[Any, Any], Any] | Any
    goal: Goal = "max"
    unit: str = "share"
    arguments: Callable[[Any, Any], Sequence[Any]] | None = None

    def scores(self, outputs: TensorTree, targets: TensorTree) -> Tensor:
        """Return the result of `score` as float64, [n] or one number; `score` gets copies, which it may modify.

        A score of -inf rules a class out; other outputs must be finite.

        Raises:
            WrongInput: the outputs are not numbers, the result is neither one score per sample nor one number, or a
                share is not between 0 and 1.
        """
        count = num_rows(outputs)
        if wrong := _num_strange(outputs, count):
            rule = "the model's answers must be numbers, or -inf for a class that it rules out"
            raise WrongInput(Problem("answers", rule, f"nan or inf for {wrong} of {count} samples"))
        found = self.score(_copied(outputs), _copied(targets))
        try:
            scores = torch.as_tensor(found).detach()
        except (TypeError, ValueError, RuntimeError):
            rule = f"must give {count} scores or one number"
            raise WrongInput(Problem("scores", rule, type(found).__name__)) from None
        if scores.is_complex():
            raise WrongInput(Problem("scores", "must be real numbers", str(scores.dtype)))
        scores = scores.double()
        if scores.dim() > 0 and scores.shape != (count,):
            raise WrongInput(Problem("scores", f"must give {count} scores or one number", str(list(scores.shape))))
        return self.checked(scores)

    def checked(self, scores: Tensor) -> Tensor:
        """Return `scores`.

        Raises `WrongInput` if the score of a sample is NaN, or the unit is a share and a score is not between 0 and 1.
        One number for many samples may be NaN, such as a rate of a class that is not among them.
        """
        if scores.dim() > 0 and (unknown := int(scores.isnan().sum())):
            raise WrongInput(Problem("scores", "the score of a sample must not be NaN", f"nan for {unknown} samples"))
        if self.unit == "share" and bool(((scores < -_ROUNDING) | (scores > 1 + _ROUNDING)).any()):
            ends = f"{float(scores.min()):.4g} to {float(scores.max()):.4g}"
            hint = "divide it by its largest value, or give the metric its own unit: Metric(score, unit='points')"
            raise WrongInput(Problem("scores", "a share lies between 0 and 1", ends, hint))
        return scores


def _num_strange(outputs: TensorTree, count: int) -> int:
    """Count the samples whose outputs contain nan or inf."""
    strange = torch.zeros(count, dtype=torch.bool)
    for tensor in tensors(outputs):
        if tensor.is_floating_point() and tensor.shape[:1] == (count,):
            strange |= (tensor.isnan() | (tensor == torch.inf)).reshape(count, -1).any(1)
    return int(strange.sum())


def _copied(tree: TensorTree) -> TensorTree:
    return mapped(Tensor.clone, tree)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """The model to compress, with its data, loss and metrics.

    A sample is a pair (input, target), or several inputs and then the target, or a mapping or dataclass. If samples are
    mappings, the model is called with the entries that `example_input` names, and loss and metrics receive the whole
    batch as targets.

    Args:
        model: a function that returns an untrained model, or a (pretrained) model, which is copied and never modified.
        train: training samples; a map-style dataset with a length.
        validation: samples on which candidates are compared.
        test: samples that are read only once, for the selected models.
        loss: ``loss(outputs, targets)`` returns the mean over the batch, a differentiable scalar.
        metrics: by name; the names are objectives of a sweep.
        example_input: the model's inputs for one sample, tensors with their batch axis, [1, ...]: a tensor, a tuple for
            ``model(*inputs)``, a mapping for ``model(**inputs)``, or `ModelInputs` for both.
        variants: other models for the same data, by name, from which the stage `student` may choose; functions may take
            keyword arguments, such as a width.
        source: samples of the task from which parameters were transferred, in the same form, for the tweak `replay`.
        stream: the whole training split, if it is too large for one machine; `train` is then a subset of a few thousand
            samples, which calibration, sensitivities and checks use. See `paretta.pipelines.stream`.
        class_axis: the axis of the outputs that holds one score per class, such as -1 of [n, tokens, classes]. By
            default 1 of [n, classes], otherwise the one axis that class labels lack; required if that is ambiguous.
        ignore_label: the class label that every loss ignores, such as that of padding; by default -100, as in torch's
            losses. It must be the one that `loss` ignores; None if every label counts.
        data_id: identifies data whose samples differ each time they are read although torch, numpy and random are
            seeded; it must change whenever the data changes.
        collate: makes a batch from a list of samples, as in torch's DataLoader; by default `default_collate`.
        free_axes: axes other than the first whose length may vary, by input and axis, such as
            ``{"input_ids": {1: "tokens"}}``, or ``{1: ("tokens", 1, 512)}`` with bounds. Axes with the same name have
            the same length.
        calibration: inputs or samples from which statistics are computed instead of training samples; they need no
            labels.
        training_inputs: entries of a batch that are passed to the model in training only, such as ``labels`` if the
            model computes its own loss.
        class_scores: ``class_scores(outputs)`` returns the class scores of outputs that are not a tensor; by default
            their ``logits``, otherwise their first tensor.
        files: content of files that are delivered beside each model, by name, such as ``preprocessor_config.json``:
            what a program needs that runs the model without this task.
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
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def num_train(self) -> int:
        """Number of samples in a training epoch."""
        return num_samples(self.train) if self.stream is None else self.stream.num_samples

    def new_model(self) -> nn.Module:
        """Return a new model, initialised at random by torch's current seed."""
        return self.with_shapes(deepcopy(self.model) if isinstance(self.model, nn.Module) else self.model())

    def with_shapes(self, model: nn.Module) -> nn.Module:
        """Return `model`, whose lazy modules, such as `nn.LazyLinear`, got their shapes from `example_input`."""
        if isinstance(model, nn.Module) and any(map(is_lazy, (*model.parameters(), *model.buffers()))):
            training = model.training
            with torch.no_grad():
                call_model(model.eval(), self.example_input)
            model.train(training)
        return model

    def split(self, name: Split) -> Samples:
        """Return the dataset called `name`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def batch(
        self,
        dataset: Samples,
        indices: Tensor,
        *,
        training: bool = False,
        name: str | None = None,
        seed: int | None = None,
    ) -> tuple[TensorTree, TensorTree]:
        """Return inputs and targets of the samples at `indices` [n].

        Args:
            dataset: in the form of the task's splits.
            indices: [n].
            training: whether the batch is for training, so that `training_inputs` are included.
            name: of the dataset, for messages; by default that of the task's field which holds it.
            seed: of the samples' random views, see `paretta.pipelines.data.samples.take`.

        Raises:
            WrongInput: a sample cannot be read, or the samples cannot be collated.
        """
        called = self.name_of(dataset) if name is None else name
        return self.parts(take(dataset, indices, self.collate, name=called, seed=seed), training=training)

    def name_of(self, dataset: Samples) -> str:
        """Return what messages call a dataset, such as ``task.train``; ``data`` if it is not the task's."""
        known = ("train", "validation", "test", "calibration", "source")
        return next((f"task.{name}" for name in known if getattr(self, name) is dataset), "data")

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
        """Return the inputs of the samples at `indices` [n] of `statistics_samples`."""
        samples = self.statistics_samples
        batch = take(samples, indices, self.collate, name=self.name_of(samples))
        has_targets = self.calibration is None or not isinstance(batch, tuple | list)
        if has_targets or len(batch) != len(as_inputs(self.example_input).args):
            return self.parts(batch)[0]
        return batch[0] if len(batch) == 1 else tuple(batch)

    @property
    def statistics_samples(self) -> Samples:
        """The samples from which statistics are computed: `calibration`, by default the training split."""
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
        """Return the class labels, or other targets, of a batch; None if no entry has such a name."""
        if isinstance(targets, Tensor):
            return targets
        if isinstance(targets, Mapping):
            return next((targets[name] for name in _LABELS if isinstance(targets.get(name), Tensor)), None)
        return None
