"""Importance: one file for each score of how much a channel or weight matters, a pure function and a thin class."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from paretta.search_spaces.registry import IMPORTANCES


@dataclass(frozen=True, slots=True)
class Rows:
    """One layer, seen as a row for each output channel or neuron.

    Args:
        weight: [out, fan_in], the weights that make each output.
        gradient: [out, fan_in], of the task's loss; zeros unless the importance asks for it.
        generator: the only source of randomness.
        mean_abs_gradient: [out, fan_in], the mean over batches of the gradient's size; zeros likewise.
        activity: [out], the mean absolute value that each output hands to the layers after it; None unless the
            importance asks for it, and for single weights.
        norm_scale: [out], the scale of the batch norm that each output passes; None where it passes none.
        gate: [out], the mean over batches of ``|dL/dgate|``, where a gate of 1 multiplies what each output hands on,
            after its batch norm where it passes one; None for single weights, or unless the importance asks for it.
    """

    weight: Tensor
    gradient: Tensor
    generator: torch.Generator
    mean_abs_gradient: Tensor
    activity: Tensor | None = None
    norm_scale: Tensor | None = None
    gate: Tensor | None = None


class Importance(ABC):
    """Scores the output channels of a layer: [out], higher is kept. Only the order and the ratios matter.

    A file ``x.py`` offers the class ``X``. Renumbering the rows must renumber the scores and change nothing else,
    except where `is_drawn` says that scores come from the generator.
    """

    needs_gradient: ClassVar[bool] = False
    needs_activity: ClassVar[bool] = False
    is_drawn: ClassVar[bool] = False

    @abstractmethod
    def scores(self, rows: Rows) -> Tensor:
        """Return one non-negative score per row, [out]."""

    def weight_scores(self, rows: Rows) -> Tensor | None:
        """Return one non-negative score per weight, [out, fan_in]; None where the score is of whole rows only."""
        return None

    @classmethod
    def scores_weights(cls) -> bool:
        """Say whether single weights have a score."""
        return cls.weight_scores is not Importance.weight_scores


def importance_of(name: str, where: str) -> Importance:
    """Load the score called `name`. Raises `WrongInput`."""
    importance_class = IMPORTANCES.load_class(name, Importance, where=where)  # type: ignore[type-abstract]
    return importance_class()


def known_importance(name: str) -> str:
    """Validate a setting that names a score: give it back, or raise ValueError that says what is wrong with it."""
    return IMPORTANCES.known(name, Importance)
