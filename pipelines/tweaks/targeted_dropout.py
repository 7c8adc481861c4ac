"""Dropout of the weights that pruning would remove, so that the model learns to work without them."""

from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.model.weights import Weight, shared_weights, weights_of
from paretta.pipelines.quantization.layer_graph import bake_parametrizations
from paretta.pipelines.tweak import Tweak, TweakSettings


class TargetedDropout(TweakSettings):
    """At each step drop each of an output's smallest weights, a share `target`, with probability `rate`.

    Small weights that are often dropped lose their influence, so pruning them later costs less (Gomez et al., 2019,
    "Learning sparse networks using targeted dropout"). The dropout is removed after the training.
    """

    kind: Literal["targeted_dropout"] = "targeted_dropout"
    target: float = Field(
        default=0.5, gt=0, lt=1, description="the share of smallest weights of each output, such as 0.5"
    )
    rate: float = Field(default=0.5, gt=0, le=1, description="how often each of them is dropped, such as 0.5")

    def start(self, model: nn.Module, bench: Bench, num_steps: int) -> Tweak:
        """Attach the dropout to every weight that is used by a single layer."""
        shared = shared_weights(model)
        weights = [weight for weight in weights_of(model) if weight.name not in shared]
        drops = [_Drop(weight.values) for weight in weights]
        for weight, drop in zip(weights, drops, strict=True):
            parametrize.register_parametrization(weight.module, weight.attribute, drop)
        return _Dropping(self, weights, drops, bench.seed)

    def words(self) -> str:
        """Describe the tweak: target share and rate."""
        return f"targeted dropout of {self.target:.0%} at rate {self.rate:.2g}"


class _Drop(nn.Module):
    """Parametrization that drops weights in training and none in evaluation."""

    keep: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("keep", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.keep, weight, 0.0) if self.training else weight


class _Dropping(Tweak):
    def __init__(self, settings: TargetedDropout, weights: list[Weight], drops: list[_Drop], seed: int) -> None:
        self.settings, self.weights, self.drops, self.seed = settings, weights, drops, seed

    @torch.no_grad()
    def before_step(self, step: int, model: nn.Module) -> None:
        # the same on all ranks, which train one model
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "targeted dropout", str(step)))
        for weight, drop in zip(self.weights, self.drops, strict=True):
            drop.keep.copy_(~self._dropped(weight.stored, generator))

    def finish(self, model: nn.Module) -> None:
        for weight, drop in zip(self.weights, self.drops, strict=True):
            _remove(weight, drop)

    def _dropped(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        rows = weight.flatten(1).abs()
        count = int(rows.shape[1] * self.settings.target + 1e-6)
        small = torch.zeros_like(rows, dtype=torch.bool)
        small.scatter_(1, torch.argsort(rows, dim=1, stable=True)[:, :count], True)
        drawn = torch.rand(rows.shape, generator=generator) < self.settings.rate
        return (small & drawn.to(small.device)).view_as(weight)


def _remove(weight: Weight, drop: _Drop) -> None:
    chains = cast(nn.ModuleDict, weight.module.parametrizations)
    chain = cast(nn.ModuleList, chains[weight.attribute])
    if len(chain) > 1:
        del chain[[*chain].index(drop)]
    elif len(chains) == 1:
        drop.eval()
        bake_parametrizations(weight.module)
    else:
        # another weight of the module has a parametrization, which baking would remove
        drop.keep.fill_(True)
