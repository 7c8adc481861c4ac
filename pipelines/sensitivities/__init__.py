"""Sensitivities, which estimate the cost of rounding one layer to a width, one file each."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.data.samples import draw
from paretta.pipelines.data.trees import TensorTree, moved, num_rows, tree_rows
from paretta.pipelines.losses.class_scores import counted
from paretta.search_spaces.errors import Problem, WrongInput

WIDTHS: Final = tuple(range(2, 9))


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and the layers of it that may be rounded.

    Args:
        model: in evaluation mode, on the bench's device, its weights plain parameters.
        layers: names of the modules whose `weight` may be rounded.
        rounded: ``rounded(layer, weight, bits)`` returns the rounded weight of a layer, same shape.
        num_samples: how many training samples to use.
    """

    model: nn.Module
    layers: tuple[str, ...]
    rounded: Callable[[str, Tensor, int], Tensor]
    num_samples: int = 64

    def parameter(self, layer: str) -> tuple[str, nn.Parameter]:
        """Return the name and the parameter of the weight of `layer`."""
        return f"{layer}.weight", self.model.get_parameter(f"{layer}.weight")

    def changes(self, layer: str) -> Tensor:
        """Return ``w - rounded(w)`` at each width, [widths, *weight]."""
        weight = self.weight(layer)
        return torch.stack([weight - self.rounded(layer, weight, bits) for bits in WIDTHS])

    def weight(self, layer: str) -> Tensor:
        """Return the weight of `layer`."""
        return self.parameter(layer)[1].detach()

    def batch(self, bench: Bench) -> tuple[TensorTree, TensorTree]:
        """Return `num_samples` random pairs of the training split, equal on every rank.

        Samples whose labels are all ignored are left out. Raises `WrongInput` if that leaves none.
        """
        indices = draw(bench.task.train, self.num_samples, bench.seed)
        inputs, targets = bench.task.batch(bench.task.train, indices, training=True)
        mask = counted(bench.task, targets)
        if mask is not None:
            kept = mask.reshape(len(mask), -1).any(1)
            inputs, targets = tree_rows(inputs, kept), tree_rows(targets, kept)
        if num_rows(inputs) == 0:
            rule = f"none of {self.num_samples} training samples has a label that counts"
            raise WrongInput(Problem("quantize.bits.sensitivity", rule, hint="use the sensitivity `error`"))
        return moved(inputs, bench.ranks.device), moved(targets, bench.ranks.device)


class Sensitivity(ABC):
    """Estimates how much worse the model gets if a single layer is rounded; a file ``x.py`` defines the class ``X``.

    Only ratios matter: the sum of the costs over layers is minimised under a budget of bits.
    """

    @abstractmethod
    def costs(self, subject: Subject, bench: Bench) -> Tensor:
        """Return the cost of each layer at each width of `WIDTHS`, [layers, widths], finite and non-negative."""
