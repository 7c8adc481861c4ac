"""Importance: one file for each score of how much a channel matters, a pure tensor function and a thin class."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from search_spaces.registry import Registry

IMPORTANCES = Registry("importance", "pipelines.importance")


@dataclass(frozen=True, slots=True)
class Rows:
    """One layer, seen as a row for each output channel or neuron.

    Args:
        weight: [out, fan_in], the weights that make each output.
        gradient: [out, fan_in], of the task's loss; zeros unless the importance asks for it.
        generator: the only source of randomness.
    """

    weight: Tensor
    gradient: Tensor
    generator: torch.Generator


class Importance(ABC):
    """Scores the output channels of a layer: [out], higher is kept. Only the order and the ratios matter.

    A file ``x.py`` offers the class ``X``. Renumbering the rows must renumber the scores and change nothing else,
    except where `is_drawn` says that scores come from the generator.
    """

    needs_gradient: ClassVar[bool] = False
    is_drawn: ClassVar[bool] = False

    @abstractmethod
    def scores(self, rows: Rows) -> Tensor:
        """Return one non-negative score per row, [out]."""
