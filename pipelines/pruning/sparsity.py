"""The sparsity of each layer, the layers that can be sparse, and masks from scores."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.model.masks import n_of_m, sparsest, sparsest_of_all
from paretta.pipelines.model.name_patterns import by_pattern
from paretta.pipelines.model.weights import Weight, shared_weights, weights_of
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.results.note import Note

Amount: TypeAlias = float | str
Scope: TypeAlias = Literal["layer", "global"]

_RULE = "must be a share from 0 to below 1 such as 0.9, or N:M such as '2:4'"
_PATTERN = re.compile(r"([1-9]\d*):([1-9]\d*)")


def amount(value: object) -> Amount:
    """Validate a share or N:M pattern. Raises ValueError."""
    if isinstance(value, str) and (found := _PATTERN.fullmatch(value)) and int(found[1]) < int(found[2]):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
        return float(value)
    raise ValueError(_RULE)


def _amounts(value: object) -> object:
    if isinstance(value, Mapping):
        if not value:
            raise ValueError("needs at least one pattern")
        return {str(pattern): amount(item) for pattern, item in value.items()}
    return amount(value)


Amounts = Annotated[float | str | dict[str, float | str], BeforeValidator(_amounts)]


def check_scope(scope: Scope, amounts: Amounts) -> None:
    """Raise ValueError if `scope` has no meaning for these amounts."""
    if scope == "global" and not isinstance(amounts, float):
        raise ValueError("scope global needs one share for all layers; set `scope` to layer or give a number")


def chosen_weights(model: nn.Module, amounts: Amounts, where: str, bench: Bench) -> list[tuple[Weight, Amount]]:
    """Return the weights that get a mask, with their amounts; note the layers that cannot have one.

    Raises:
        WrongInput: a pattern matches no layer, or no layer can be made sparse.
    """
    weights = {weight.name: weight for weight in weights_of(model)}
    patterns = amounts if isinstance(amounts, dict) else {"*": amounts}
    shared, chosen = shared_weights(model), []
    for name, wanted in by_pattern(patterns, weights, where).items():
        if (obstacle := _obstacle(weights[name], wanted, shared=name in shared)) is None:
            chosen.append((weights[name], wanted))
        else:
            bench.note(Note(where.partition(".")[0], f"stays dense: {obstacle}", (name,)))
    if not chosen:
        raise WrongInput(Problem(where, "no layer of the model can be made sparse", str(amounts)))
    return chosen


def masks_for(scores: Sequence[Tensor], amounts: Sequence[Amount], scope: Scope) -> list[Tensor]:
    """Return a mask for each tensor of scores; with scope ``global``, all amounts must be the same share."""
    if scope == "global":
        (share,) = {wanted for wanted in amounts if isinstance(wanted, float)}
        return sparsest_of_all(scores, share)
    return [_mask(score, wanted) for score, wanted in zip(scores, amounts, strict=True)]


def told(wanted: Amounts) -> str:
    """Describe an amount, or one for each pattern."""
    if isinstance(wanted, dict):
        return ", ".join(f"{told(item)} of {pattern}" for pattern, item in wanted.items())
    return f"all but {wanted}" if isinstance(wanted, str) else f"{wanted:.0%}"


def _mask(scores: Tensor, wanted: Amount) -> Tensor:
    if isinstance(wanted, str):
        n, m = map(int, wanted.split(":"))
        return n_of_m(scores, n, m)
    return sparsest(scores, wanted)


def _obstacle(weight: Weight, wanted: Amount, *, shared: bool) -> str | None:
    if shared:
        return "its weight is shared with another layer"
    width = weight.values.shape[1]
    if isinstance(wanted, str) and width % int(wanted.partition(":")[2]):
        return f"its {width} input channels do not split into groups for {wanted}"
    return None
