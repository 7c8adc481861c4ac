"""Importance scores of channels and weights, one file each with a pure function and a thin class."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

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


def importance_of(name: str, where: str) -> Importance:
    """Load the score called `name`. Raises `WrongInput`."""
    importance_class = IMPORTANCES.load_class(name, Importance, where=where)  # type: ignore[type-abstract]
    return importance_class()


def known_importance(name: str) -> str:
    """Validate a setting that names a score: return it, or raise ValueError with the reason."""
    return IMPORTANCES.known(name, Importance)
