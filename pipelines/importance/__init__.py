"""Importance scores of channels and weights, one file each with a pure function and a thin class."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from paretta.search_spaces.errors import Problem
from paretta.search_spaces.registry import IMPORTANCES


@dataclass(frozen=True, slots=True)
class Rows:
    """One layer as a matrix with a row for each output channel or neuron.

    Args:
        weight: [out, fan_in], the weights of each output.
        gradient: [out, fan_in], of the task's loss; zeros unless the importance asks for it.
        generator: the only source of randomness.
        mean_abs_gradient: [out, fan_in], the mean absolute gradient over batches; zeros likewise.
        activity: [out], the mean absolute activation of each output as the next layers receive it; None unless the
            importance asks for it, and for single weights.
        norm_scale: [out], the scale of the batch norm after each output; None if there is none.
        gate: [out], the mean over batches of ``|dL/dgate|``, where a gate of 1 multiplies each output, after its batch
            norm if there is one; None for single weights, or unless the importance asks for it.
    """

    weight: Tensor
    gradient: Tensor
    generator: torch.Generator
    mean_abs_gradient: Tensor
    activity: Tensor | None = None
    norm_scale: Tensor | None = None
    gate: Tensor | None = None


class Importance(ABC):
    """Scores the output channels of a layer, [out]; higher scores are kept. Only the order and the ratios matter.

    A file ``x.py`` defines the class ``X``. A permutation of the rows must permute the scores and change nothing else,
    unless `is_drawn` says that scores come from the generator.
    """

    needs_gradient: ClassVar[bool] = False
    needs_activity: ClassVar[bool] = False
    is_drawn: ClassVar[bool] = False

    @abstractmethod
    def scores(self, rows: Rows) -> Tensor:
        """Return one non-negative score per row, [out]."""

    def weight_scores(self, rows: Rows) -> Tensor | None:
        """Return one non-negative score per weight, [out, fan_in]; None if only whole rows have a score."""
        return None

    @classmethod
    def scores_weights(cls) -> bool:
        """Return True if single weights have a score."""
        return cls.weight_scores is not Importance.weight_scores


def sound_scores(importance: Importance, found: object, like: Tensor) -> Tensor:
    """Return the scores that an importance `found`, in float32.

    Raises `ValueError` unless they are a tensor of the shape of `like`, finite and not negative.
    """
    rule = f"its scores must be a tensor {list(like.shape)} of finite values from 0 on"
    if not isinstance(found, Tensor) or found.shape != like.shape:
        got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(str(Problem(type(importance).__name__, rule, got)))
    wrong = ~(torch.isfinite(found) & (found >= 0))
    if bool(wrong.any()):
        raise ValueError(str(Problem(type(importance).__name__, rule, float(found[wrong][0]))))
    return found.float()


def importance_of(name: str, where: str) -> Importance:
    """Load the score called `name`. Raises `WrongInput`."""
    importance_class = IMPORTANCES.load_class(name, Importance, where=where)  # type: ignore[type-abstract]
    return importance_class()


def known_importance(name: str) -> str:
    """Validate a setting that names a score: return it, or raise ValueError with the reason."""
    return IMPORTANCES.known(name, Importance)
