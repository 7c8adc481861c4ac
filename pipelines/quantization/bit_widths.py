"""The bits of each layer: one width, a width per name pattern, or widths found within a budget."""

from collections.abc import Callable, Mapping
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from paretta.pipelines.bench import Bench
from paretta.pipelines.quantization.bit_allocation import NoAllocation, allocate
from paretta.pipelines.sensitivities import WIDTHS, Sensitivity, Subject
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean
from paretta.search_spaces.quantities import format_quantity, parse_quantity
from paretta.search_spaces.registry import SENSITIVITIES

_RULE = "must be a whole number from 2 to 8"
# bits per value of large tensors in the file, by width; see `paretta.pipelines.export.integer_packing.pack_integers`
STORED_BITS: Final = {2: 1.6, 3: 64 / 22, 4: 4.0, 5: 5.0, 6: 6.0, 7: 7.0, 8: 8.0}
_TRIES = 4


class WidthBudget(BaseModel):
    """Widths to be found within a budget: few bits for layers with little effect on the loss, more for the others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    average: float | None = Field(
        default=None, ge=2, le=8, description="bits per quantised weight on average, such as 4.5"
    )
    at_most: str | None = Field(default=None, description="the largest size of the model file, such as 50kB")
    sensitivity: str = Field(default="fisher", description="how the cost of rounding a layer is judged, such as fisher")

    @field_validator("at_most")
    @classmethod
    def _bytes(cls, text: str | None) -> str | None:
        if text is not None and parse_quantity(text)[1] != "B":
            raise ValueError(f"`at_most` must be a size such as 50kB, not {text!r}")
        return text

    @field_validator("sensitivity")
    @classmethod
    def _known(cls, name: str) -> str:
        return SENSITIVITIES.known(name, Sensitivity)

    @model_validator(mode="after")
    def _one(self) -> "WidthBudget":
        if (self.average is None) == (self.at_most is None):
            raise ValueError("give either `average` or `at_most`")
        return self

    @property
    def num_bytes(self) -> float | None:
        """The largest size of the model file in bytes, if that is the budget."""
        return None if self.at_most is None else parse_quantity(self.at_most)[0]

    def words(self) -> str:
        """Describe the budget, such as ``4.5 bits on average by fisher``."""
        bound = f"at most {self.at_most}" if self.average is None else f"{self.average:.3g} bits on average"
        return f"{bound} by {self.sensitivity}"


_SETTINGS = set(WidthBudget.model_fields)


def _widths(value: object) -> object:
    if isinstance(value, WidthBudget):
        return value
    if not isinstance(value, Mapping):
        return _bits(value)
    if not value:
        raise ValueError("needs at least one pattern")
    if _SETTINGS & {str(key) for key in value}:
        return _budget({str(key): setting for key, setting in value.items()})
    for bits in value.values():
        try:
            _bits(bits)
        except ValueError:
            raise ValueError(f"each pattern's bits {_RULE}") from None
    return {str(pattern): bits for pattern, bits in value.items()}


def _bits(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in WIDTHS:
        raise ValueError(_RULE)
    return value


def _budget(settings: Mapping[str, object]) -> WidthBudget:
    try:
        return WidthBudget.model_validate(settings)
    except ValidationError as error:
        found = error.errors()[0]
        where, rule = str(found["loc"][0]) if found["loc"] else "", found["msg"]
        if found["type"] == "extra_forbidden":
            raise ValueError(did_you_mean(where, _SETTINGS, "setting of a budget")) from None
        if found["type"] == "value_error":
            raise ValueError(rule.removeprefix("Value error, ")) from None
        raise ValueError(f"`{where}` {rule.replace('Input should be', 'must be')}") from None


Widths = Annotated[int | WidthBudget | dict[str, int], BeforeValidator(_widths)]


def found_widths(
    budget: WidthBudget, subject: Subject, bench: Bench, file_bytes: Callable[[Mapping[str, int]], int]
) -> dict[str, int]:
    """Return the bits of each of the subject's layers with the least cost within the budget; equal on all ranks.

    Args:
        budget: bits on average, or bytes of the file.
        subject: the model and the layers that may be rounded.
        bench: data for the sensitivity.
        file_bytes: returns the size of the exported file for given bits; called only if the budget is in bytes.

    Raises:
        WrongInput: the budget cannot be kept even with the fewest bits.
    """
    # rank 0 decides: a rounding difference between machines must not give different widths
    costs = bench.ranks.broadcast(sensitivity_of(budget.sensitivity).costs(subject, bench).float())
    table = costs.double().cpu().numpy()
    counts = np.array([subject.weight(name).numel() for name in subject.layers], np.float64)
    if budget.average is not None:
        chosen = allocate(table, np.outer(counts, WIDTHS), budget.average * counts.sum())
        return dict(zip(subject.layers, (WIDTHS[index] for index in chosen), strict=True))
    return _within_bytes(budget, table, counts, subject.layers, file_bytes)


def _within_bytes(
    budget: WidthBudget,
    costs: NDArray[np.float64],
    counts: NDArray[np.float64],
    layers: tuple[str, ...],
    file_bytes: Callable[[Mapping[str, int]], int],
) -> dict[str, int]:
    """Solve for the packed weights alone, export, and solve again with the size of the rest of the file subtracted."""
    limit = budget.num_bytes
    assert limit is not None
    sizes = np.outer(counts, list(STORED_BITS.values())) / 8
    fewest = dict.fromkeys(layers, WIDTHS[0])
    least = file_bytes(fewest)
    best, rest = fewest, least - sizes[:, 0].sum()
    for _ in range(_TRIES):
        try:
            chosen = allocate(costs, sizes, max(limit - rest, 1.0))
        except NoAllocation:
            break
        widths = {name: WIDTHS[index] for name, index in zip(layers, chosen, strict=True)}
        found = file_bytes(widths)
        if found <= limit:
            best = widths
            break
        rest += found - limit
    if least > limit:
        rule = f"the file takes {format_quantity(least, 'B')} even with 2 bits everywhere"
        raise WrongInput(Problem("quantize.bits.at_most", rule, budget.at_most, "raise it or prune first"))
    return best


def sensitivity_of(name: str) -> Sensitivity:
    """Return the sensitivity called `name`. Raises `WrongInput`."""
    place = "quantize.bits.sensitivity"
    sensitivity_class = SENSITIVITIES.load_class(name, Sensitivity, where=place)  # type: ignore[type-abstract]
    return sensitivity_class()
