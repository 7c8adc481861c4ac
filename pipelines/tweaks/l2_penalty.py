"""L2 penalty on the weights, for any optimiser."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.model.weights import weights_of
from paretta.pipelines.tweak import Tweak, TweakSettings


class L2Penalty(TweakSettings):
    """Add ``strength / 2 * sum w^2`` to the loss (Hoerl and Kennard, 1970, ridge regression).

    With sgd it equals weight decay of this strength; with adaptive optimisers it does not (Loshchilov and Hutter,
    2019); lbfgs has no weight decay.
    """

    kind: Literal["l2_penalty"] = "l2_penalty"
    strength: float = Field(default=1e-4, gt=0, description="the factor before half of the sum, such as 0.0001")

    def start(self, model: nn.Module, bench: Bench, num_steps: int) -> Tweak:
        """Return the hook that adds the penalty."""
        return _Pull(self.strength)

    def words(self) -> str:
        """Describe the tweak: its strength."""
        return f"L2 {self.strength:g}"


class _Pull(Tweak):
    def __init__(self, strength: float) -> None:
        self.strength = strength

    def penalty(self, model: nn.Module) -> Tensor | None:
        parts = [weight.values.square().sum() for weight in weights_of(model)]
        return self.strength / 2 * torch.stack(parts).sum() if parts else None
