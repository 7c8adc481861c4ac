"""Hold single weights at zero: unstructured by share, or N of every M neighbours."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self, TypeAlias

import torch
from pydantic import BeforeValidator, Field, field_validator, model_validator
from torch import Tensor, nn

from pipelines.attention import unfold_attention
from pipelines.bench import Bench, derived_seed
from pipelines.data_pass import Gradients, gradients
from pipelines.importance import IMPORTANCES, Importance, Rows, importance_of, known_importance
from pipelines.masks import attach_mask, n_of_m, sparsest, sparsest_of_all
from pipelines.patterns import by_pattern
from pipelines.stage import Shape, Stage
from pipelines.weights import Weight, shared_weights, weights_of
from search_spaces.errors import Problem, WrongInput

_log = logging.getLogger("paretta")
_RULE = "must be a share from 0 to below 1 such as 0.9, or N:M such as '2:4'"
_PATTERN = re.compile(r"([1-9]\d*):([1-9]\d*)")

Amount: TypeAlias = float | str


def _amount(value: object) -> Amount:
    if isinstance(value, str) and (found := _PATTERN.fullmatch(value)) and int(found[1]) < int(found[2]):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
        return float(value)
    raise ValueError(_RULE)


def _amounts(value: object) -> object:
    if isinstance(value, Mapping):
        if not value:
            raise ValueError("needs at least one pattern")
        return {str(pattern): _amount(amount) for pattern, amount in value.items()}
    return _amount(value)


Amounts = Annotated[float | str | dict[str, float | str], BeforeValidator(_amounts)]


class Sparsify(Stage):
    """Mask the least important weights of convolutions, linear layers and attention projections.

    A mask belongs to the layer: its weights are zero in every later training, quantisation and clustering, and zero
    in the delivered file. With a share s the weights of lowest score go (Han et al., 2015); with ``N:M`` the N best of
    every M neighbours along the input channels stay (Mishra et al., 2021).

    Zeros save bytes where the file is entropy-coded and nothing else: no runtime we measure skips them, so latency
    and the size of the runnable file stay as they are.
    """

    kind: Literal["sparsify"] = "sparsify"
    sparsity: Amounts = Field(
        examples=[0.5],
        description="a share such as 0.9, N:M such as '2:4', or {name pattern: either} such as "
        "{'fc*': 0.95, '*': '2:4'}, first match wins",
    )
    importance: str = Field("magnitude", description="the name of a score of single weights, such as magnitude")
    scope: Literal["layer", "global"] = Field("layer", description="layer (the same share of each) or global")
    num_samples: int = Field(256, ge=1, description="the training samples for scores that need gradients, such as 256")

    @field_validator("importance")
    @classmethod
    def _scores_weights(cls, name: str) -> str:
        if not importance_of(known_importance(name), "sparsify.importance").scores_weights():
            known = [name for name in IMPORTANCES.names() if importance_of(name, "").scores_weights()]
            raise ValueError(f"scores whole channels only; of single weights do: {', '.join(known)}")
        return name

    @model_validator(mode="after")
    def _one_share(self) -> Self:
        if self.scope == "global" and not isinstance(self.sparsity, float):
            raise ValueError(
                "scope global needs one share for all layers; set `scope` to layer or `sparsity` to a number"
            )
        return self

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model` with masks, equal on all ranks.

        Raises:
            WrongInput: a pattern matches no layer, or no layer can hold the pattern.
        """
        unfold_attention(model.to(bench.ranks.device).eval())
        chosen = self._chosen(model)
        scores = self._scores(model, [weight for weight, _ in chosen], bench)
        if self.scope == "global":
            assert isinstance(self.sparsity, float)
            masks = sparsest_of_all(scores, self.sparsity)
        else:
            masks = [mask_for(score, amount) for score, (_, amount) in zip(scores, chosen, strict=True)]
        for (weight, _), mask in zip(chosen, masks, strict=True):
            attach_mask(weight.module, mask, weight.attribute)
        return model

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Groups of M need widths that are multiples of M, which removing channels may break."""
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
        """Every value keeps its place; a coder stores zeros in less."""
        return "stored by value"

    def sketch(self) -> Self:
        """Ask for no gradients."""
        return self.model_copy(update={"importance": "magnitude"})

    def words(self) -> str:
        """Say how much of what."""
        if not isinstance(self.sparsity, dict):
            return f"zero {_told(self.sparsity)} of weights by {self.importance}"
        parts = (f"{_told(amount)} of {pattern}" for pattern, amount in self.sparsity.items())
        return f"zero {', '.join(parts)} by {self.importance}"

    def _chosen(self, model: nn.Module) -> list[tuple[Weight, Amount]]:
        """Return the weights that get a mask, each with its amount; name those that cannot have one."""
        weights = {weight.name: weight for weight in weights_of(model)}
        patterns = self.sparsity if isinstance(self.sparsity, dict) else {"*": self.sparsity}
        amounts = by_pattern(patterns, weights, "sparsify.sparsity")
        shared, chosen = shared_weights(model), []
        for name, amount in amounts.items():
            if (obstacle := _obstacle(weights[name], amount, shared=name in shared)) is None:
                chosen.append((weights[name], amount))
            else:
                _log.warning("%s stays dense: %s", name, obstacle)
        if not chosen:
            raise WrongInput(Problem("sparsify.sparsity", "no layer of the model can be made sparse", self.sparsity))
        return chosen

    def _scores(self, model: nn.Module, weights: list[Weight], bench: Bench) -> list[Tensor]:
        importance = importance_of(self.importance, "sparsify.importance")
        found = gradients(model, bench, self.num_samples) if importance.needs_gradient else Gradients()
        generator = torch.Generator().manual_seed(derived_seed(bench.seed, "importance"))
        # rank 0 decides: an ulp's difference between machines must not mask different weights
        return [bench.ranks.broadcast(scores_of(weight, importance, found, generator)) for weight in weights]


def scores_of(weight: Weight, importance: Importance, found: Gradients, generator: torch.Generator) -> Tensor:
    """Return the score of every weight, [out, in, ...]."""
    values = weight.values.detach()
    signed, absolute = found.of(weight.stored)
    rows = Rows(values.flatten(1), signed.flatten(1), generator, absolute.flatten(1))
    scores = importance.weight_scores(rows)
    assert scores is not None
    return scores.view_as(values)


def mask_for(scores: Tensor, amount: Amount) -> Tensor:
    """Return the mask for a share or an N:M pattern."""
    if isinstance(amount, str):
        n, m = map(int, amount.split(":"))
        return n_of_m(scores, n, m)
    return sparsest(scores, amount)


def _obstacle(weight: Weight, amount: Amount, *, shared: bool) -> str | None:
    if shared:
        return "its weight is shared with another layer"
    width = weight.values.shape[1]
    if isinstance(amount, str) and width % int(amount.partition(":")[2]):
        return f"its {width} input channels do not split into groups for {amount}"
    return None


def _told(amount: Amount) -> str:
    return f"all but {amount}" if isinstance(amount, str) else f"{amount:.0%}"
