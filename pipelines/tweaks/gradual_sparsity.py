"""Mask weights gradually during training, so that the remaining weights can compensate."""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.model.attention import unfold_attention
from paretta.pipelines.model.masks import attach_mask, mask_of
from paretta.pipelines.model.weights import Weight
from paretta.pipelines.pruning.schedules import cubic
from paretta.pipelines.pruning.sparsity import Amount, Amounts, Scope, check_scope, chosen_weights, masks_for, told
from paretta.pipelines.tweak import Tweak, TweakSettings


class GradualSparsity(TweakSettings):
    """Mask the smallest weights, a share ``sparsity * (1 - (1 - t)^3)`` at progress t (Zhu and Gupta, 2017).

    The masks stay after the training, like those of `sparsify`, and save bytes in an entropy-coded file.
    """

    kind: Literal["gradual_sparsity"] = "gradual_sparsity"
    sparsity: Amounts = Field(
        examples=[0.5], description="the final share such as 0.9, or {name pattern: share}, first match wins"
    )
    scope: Scope = Field(default="layer", description="layer (the same share of each) or global")
    begin: float = Field(default=0.0, ge=0, lt=1, description="the share of steps after which it begins, such as 0")
    end: float = Field(
        default=0.75, gt=0, le=1, description="the share of steps after which it is complete, such as 0.75"
    )
    updates: int = Field(default=10, ge=1, description="how many times more weights go, such as 10")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        amounts = self.sparsity.values() if isinstance(self.sparsity, dict) else [self.sparsity]
        if any(isinstance(amount, str) for amount in amounts):
            raise ValueError("an N:M pattern has no steps in between; use the stage sparsify before the training")
        if self.begin >= self.end:
            raise ValueError("must begin before it ends; lower `begin`")
        check_scope(self.scope, self.sparsity)
        return self

    def start(self, model: nn.Module, bench: Bench, num_steps: int) -> Tweak:
        """Attach masks that keep all weights, and return the hook that masks weights during training."""
        chosen = chosen_weights(unfold_attention(model), self.sparsity, "gradual_sparsity.sparsity", bench)
        for weight, _ in chosen:
            attach_mask(weight.module, torch.ones_like(weight.values, dtype=torch.bool), weight.attribute)
        return _Closing(self, chosen, bench, num_steps)

    @property
    def holds_values(self) -> bool:
        """Masks stay on the layers."""
        return True

    def words(self) -> str:
        """Describe the tweak: how much is masked."""
        return f"zero {told(self.sparsity)} of weights gradually"


class _Closing(Tweak):
    def __init__(
        self, settings: GradualSparsity, chosen: list[tuple[Weight, Amount]], bench: Bench, num_steps: int
    ) -> None:
        self.settings, self.chosen, self.bench = settings, chosen, bench
        begin, end = round(settings.begin * num_steps), max(round(settings.end * num_steps), 1)
        updates = range(1, settings.updates + 1)
        # with fewer steps than updates, only the last update at a step is applied
        self.progress = {begin + max((end - begin) * k // settings.updates, 1): k / settings.updates for k in updates}

    def after_step(self, step: int, model: nn.Module) -> None:
        if step not in self.progress:
            return
        share = cubic(self.progress[step])
        scores = [self.bench.ranks.broadcast(_sizes(weight)) for weight, _ in self.chosen]
        amounts: list[Amount] = [share * float(amount) for _, amount in self.chosen]
        for (weight, _), mask in zip(self.chosen, masks_for(scores, amounts, self.settings.scope), strict=True):
            attach_mask(weight.module, mask, weight.attribute)


def _sizes(weight: Weight) -> Tensor:
    """Return ``|w|`` of the stored weights, ignoring dropout of single steps; masked weights count as 0."""
    mask = mask_of(weight.module, weight.attribute)
    assert mask is not None
    return torch.where(mask.keep, weight.stored.detach().abs(), 0.0)
