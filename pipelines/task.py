"""A task: the model, data, loss and metrics that a user brings, made by a function of their own."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn

from paretta.pipelines.samples import Samples, num_samples
from paretta.pipelines.stream import Stream
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.objectives.objective import Goal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Metric:
    """How good outputs are.

    Args:
        score: ``score(outputs [n, ...], targets [n, ...])``, on the CPU, gives one score per sample [n], whose mean is
            the reading and whose spread its interval, or one number for the whole split, then without an interval.
        goal: whether more is better.
        unit: of the score, such as ``share``.
    """

    score: Callable[[Tensor, Tensor], Tensor]
    goal: Goal = "max"
    unit: str = "share"

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the scores as float64, [n] or one number, of copies that the function may change as it likes.

        A score of -inf rules a class out; other outputs must be finite.

        Raises:
            WrongInput: the outputs are not numbers, or what comes back is neither one score for each sample nor one
                for all, or a share that is not between 0 and 1.
        """
        count, strange = len(outputs), outputs.isnan() | (outputs == torch.inf)
        if wrong := int(strange.reshape(count, -1).any(1).sum()):
            rule = "the model's answers must be numbers, or -inf for a class that it rules out"
            raise WrongInput(Problem("answers", rule, f"nan or inf for {wrong} of {count} samples"))
        found = self.score(outputs.clone(), targets.clone())
        if not isinstance(found, Tensor) or (found.dim() > 0 and found.shape != (count,)):
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise WrongInput(Problem("scores", f"must give {count} scores or one number", str(shape)))
        scores = found.detach().double()
        if self.unit == "share" and bool(((scores < -_ROUNDING) | (scores > 1 + _ROUNDING)).any()):
            ends = f"{float(scores.min()):.4g} to {float(scores.max()):.4g}"
            mend = "divide it by its largest value, or give the metric its own unit: Metric(score, unit='points')"
            raise WrongInput(Problem("scores", "a share lies between 0 and 1", ends, mend))
        return scores


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is compressed, and what it is measured by.

    Args:
        model: a function that makes an untrained model, or a (pretrained) model, which is copied, never changed.
        train: pairs (input, target) that models are trained on; a map-style dataset with a length.
        validation: pairs that candidates are compared on.
        test: pairs that are read once, for the models chosen.
        loss: ``loss(outputs, targets)`` gives the mean over the batch, a differentiable scalar.
        metrics: by name; the names are objectives of a sweep.
        example_input: one input with its batch axis, [1, ...].
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
    """

    model: nn.Module | Callable[[], nn.Module]
    train: Samples
    validation: Samples
    test: Samples
    loss: Callable[[Tensor, Tensor], Tensor]
    metrics: Mapping[str, Metric]
    example_input: Tensor
    variants: Mapping[str, nn.Module | Callable[..., nn.Module]] = field(default_factory=dict)
    source: "Samples | None" = None
    stream: Stream | None = None
    class_axis: int | None = None
    ignore_label: int | None = -100
    data_id: str | None = None

    @property
    def num_train(self) -> int:
        """How many pairs an epoch of training is."""
        return num_samples(self.train) if self.stream is None else self.stream.num_samples

    def new_model(self) -> nn.Module:
        """Return a fresh model; its random start follows torch's seed."""
        if isinstance(self.model, nn.Module):
            return deepcopy(self.model)
        return self.model()

    def split(self, name: Split) -> Samples:
        """Return the dataset called `name`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]
