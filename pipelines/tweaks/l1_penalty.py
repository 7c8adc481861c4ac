"""L1 penalty: training drives weights to zero, so that those near zero can be pruned."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paretta.pipelines.bench import Bench
from paretta.pipelines.model.weights import weights_of
from paretta.pipelines.tweak import Tweak, TweakSettings


class L1Penalty(TweakSettings):
    """Add ``strength * sum |w|`` to the loss (Tibshirani, 1996), over weights or the scales of batch norms.

    On the scales it prepares the model for `prune` with the score `norm_scale` (Liu et al., 2017, "Learning efficient
    convolutional networks through network slimming").
    """

    kind: Literal["l1_penalty"] = "l1_penalty"
    strength: float = Field(default=1e-4, gt=0, description="the factor before the sum, such as 0.0001")
    on: Literal["weights", "norm scales"] = Field(default="weights", description="weights or norm scales")

    def start(self, model: nn.Module, bench: Bench, num_steps: int) -> Tweak:
        """Return the hook that adds the penalty."""
        return _Pull(self.strength, self.on)

    def words(self) -> str:
        """Describe the tweak: its strength."""
        return f"L1 {self.strength:g} on {self.on}"


class _Pull(Tweak):
    def __init__(self, strength: float, on: str) -> None:
        self.strength, self.on = strength, on

    def penalty(self, model: nn.Module) -> Tensor | None:
        if self.on == "weights":
            parts = [weight.values.abs().sum() for weight in weights_of(model)]
        else:
            norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.affine]
            parts = [norm.weight.abs().sum() for norm in norms]
        return self.strength * torch.stack(parts).sum() if parts else None
