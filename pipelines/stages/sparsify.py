"""Hold single weights at zero: an unstructured share of them, or all but N of every M neighbours."""

from collections.abc import Sequence
from typing import Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.importance import Importance, Rows, importance_of, known_importance, sound_scores
from paretta.pipelines.model.attention import unfold_attention
from paretta.pipelines.model.masks import attach_mask
from paretta.pipelines.model.weights import Weight
from paretta.pipelines.pruning.gradient_pass import Gradients, gradients
from paretta.pipelines.pruning.sparsity import Amounts, Scope, check_scope, chosen_weights, masks_for, told
from paretta.pipelines.stage import Shape, Stage
from paretta.search_spaces.registry import IMPORTANCES
from paretta.search_spaces.results.note import CHANGED_NOTHING, NOT_ASKED, Note


class Sparsify(Stage):
    """Mask the least important weights of convolutions, linear layers and attention projections.

    A mask is part of the layer: its weights stay zero in later training, quantisation and clustering, and in the
    delivered file. With a share s the weights of lowest score are masked (Han et al., 2015); with ``N:M`` the N best of
    every M neighbours along the input channels are kept (Mishra et al., 2021).

    Zeros save bytes only in an entropy-coded file. No runtime that we measure skips them, so latency and the size of
    the runnable file do not change.
    """

    kind: Literal["sparsify"] = "sparsify"
    sparsity: Amounts = Field(
        examples=[0.5],
        description="a share such as 0.9, N:M such as '2:4', or {name pattern: either} such as "
        "{'fc*': 0.95, '*': '2:4'}, first match wins",
    )
    importance: str = Field(default="magnitude", description="the name of a score of single weights, such as magnitude")
    scope: Scope = Field(default="layer", description="layer (the same share of each) or global")
    num_samples: int = Field(
        default=256, ge=1, description="the training samples for scores that need gradients, such as 256"
    )

    @field_validator("importance")
    @classmethod
    def _scores_weights(cls, name: str) -> str:
        if not importance_of(known_importance(name), "sparsify.importance").scores_weights():
            known = [name for name in IMPORTANCES.names() if importance_of(name, "").scores_weights()]
            raise ValueError(f"scores whole channels only; of single weights do: {', '.join(known)}")
        return name

    @model_validator(mode="after")
    def _one_share(self) -> Self:
        check_scope(self.scope, self.sparsity)
        return self

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model` with masks, equal on all ranks.

        Raises:
            WrongInput: a pattern matches no layer, or no layer can hold the pattern.
        """
        unfold_attention(model.to(bench.ranks.device).eval())
        chosen = chosen_weights(model, self.sparsity, "sparsify.sparsity", bench)
        scores = self._scores(model, [weight for weight, _ in chosen], bench)
        masks = masks_for(scores, [amount for _, amount in chosen], self.scope)
        for (weight, _), mask in zip(chosen, masks, strict=True):
            attach_mask(weight.module, mask, weight.attribute)
        if all(bool(mask.all()) for mask in masks):
            asked = self.sparsity.values() if isinstance(self.sparsity, dict) else [self.sparsity]
            reason = "no layer has so many weights that one of them goes" if any(asked) else NOT_ASKED
            bench.note(Note(self.kind, reason, verdict=CHANGED_NOTHING))
        return model

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Report a `prune` stage that may leave widths which are not multiples of M."""
        amounts = self.sparsity.values() if isinstance(self.sparsity, dict) else [self.sparsity]
        sizes = {int(amount.partition(":")[2]): amount for amount in amounts if isinstance(amount, str)}
        for m, amount in sizes.items():
            if any(getattr(stage, "round_to", m) % m for stage in earlier):
                return f"{amount} needs input channels in groups of {m}; give the `prune` before it `round_to: {m}`"
        return None

    @property
    def holds_values(self) -> bool:
        """Masks stay on the layers."""
        return True

    @property
    def shape(self) -> Shape:
        """The structure is unchanged; a coder stores zeros in fewer bytes."""
        return "stored by value"

    def sketch(self) -> Self:
        """Return the stage with a score that needs no gradients."""
        return self.model_copy(update={"importance": "magnitude"})

    def words(self) -> str:
        """Describe the stage: how much is masked, by which score."""
        return (
            f"zero {told(self.sparsity)}{'' if isinstance(self.sparsity, dict) else ' of weights'} by {self.importance}"
        )

    def _scores(self, model: nn.Module, weights: Sequence[Weight], bench: Bench) -> list[Tensor]:
        importance = importance_of(self.importance, "sparsify.importance")
        found = gradients(model, bench, self.num_samples) if importance.needs_gradient else Gradients()
        generator = torch.Generator().manual_seed(derived_seed(bench.seed, "importance"))
        # rank 0 decides: a rounding difference between machines must not give different masks
        return [bench.ranks.broadcast(scores_of(weight, importance, found, generator)) for weight in weights]


def scores_of(weight: Weight, importance: Importance, found: Gradients, generator: torch.Generator) -> Tensor:
    """Return the score of every weight, [out, in, ...]."""
    values = weight.values.detach()
    signed, absolute = found.of(weight.stored)
    rows = Rows(values.flatten(1), signed.flatten(1), generator, absolute.flatten(1))
    return sound_scores(importance, importance.weight_scores(rows), rows.weight).view_as(values)
