"""Limits: bounds on measured values, absolute or relative to the baseline's reading."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast, get_args

from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean
from paretta.search_spaces.objectives.objective import Objective, meter_label
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.quantities import format_quantity, parse_quantity

Side: TypeAlias = Literal["at_least", "at_most"]
Relation: TypeAlias = Literal["absolute", "of_baseline", "below_baseline", "above_baseline"]

_ROUNDING: Final = 1e-9  # "95%" parses as 0.9500000000000001, and a reading of 0.95 must meet it
_POSITIVE: Final = ("B", "s", "ratio", "J", "MACs", "BOPs")
_SIDES: Final = get_args(Side)
_RELATIONS: Final = get_args(Relation)[1:]
_EXAMPLES: Final = "write {meter: size, at_most: 50kB} or {meter: accuracy, at_least: {below_baseline: 1%}}"


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on one meter.

    Args:
        meter: the meter whose readings are bounded.
        side: whether the bound is a minimum or a maximum.
        value: in base units; a factor for ``of_baseline``.
        unit: the base unit of `value`; None for the unit of the readings.
        relation: ``absolute``: the bound is `value`; ``of_baseline``: `value` times the baseline's reading;
            ``below_baseline`` and ``above_baseline``: the baseline's reading minus or plus `value`.

    >>> limit = Limit.parse({"meter": "accuracy", "at_least": {"below_baseline": "1%"}})
    >>> limit.excess(Reading(0.96, "share"), Reading(0.98, "share")) > 0
    True
    >>> str(limit)
    'accuracy at least the baseline - 1 points'
    """

    meter: str
    side: Side
    value: float
    unit: str | None = None
    relation: Relation = "absolute"

    @classmethod
    def parse(cls, document: Json, where: str = "limit") -> "Limit":
        """Parse ``{meter, at_least or at_most}``, where the bound is a quantity or a mapping with one relation.

        Raises `WrongInput` with every problem found, placed at `where`.
        """
        if not isinstance(document, Mapping) or not isinstance(document.get("meter"), str):
            raise WrongInput(Problem(where, "a limit is a mapping with `meter`", document, _EXAMPLES))
        strange = [str(key) for key in document if key not in ("meter", *_SIDES)]
        problems = [Problem(f"{where}.{k}", did_you_mean(k, ("meter", *_SIDES), "limit setting")) for k in strange]
        sides = [side for side in _SIDES if document.get(side) is not None]
        if len(sides) != 1:
            problems.append(Problem(where, "a limit has one of `at_least` and `at_most`", sides or None, _EXAMPLES))
        if problems:
            raise WrongInput(*problems)
        side = cast(Side, sides[0])
        return cls(meter_label(str(document["meter"])), side, *_bound_of(document[side], f"{where}.{side}"))

    def check(self, objectives: Sequence[Objective], where: str = "limit") -> list[Problem]:
        """Return why this limit cannot be evaluated, or makes no sense, in a sweep with these objectives."""
        known = {objective.meter: objective for objective in objectives}
        objective = known.get(self.meter)
        if objective is None:
            hint = "put the limit on one of these, or add it to `objectives`"
            return [Problem(where, did_you_mean(self.meter, known, "objective of this sweep"), hint=hint)]
        sensible = "at_most" if objective.goal == "min" else "at_least"
        if self.side != sensible:
            better = "smaller" if objective.goal == "min" else "larger"
            return [Problem(where, f"{better} is better for {self.meter}, so its limit is `{sensible}`")]
        is_time = objective.unit == "ratio" and self.unit == "s"  # a latency ratio's reading also has the absolute time
        if self.unit not in (None, objective.unit) and not is_time:
            rule = f"{self.meter} is measured in {objective.unit!r}, not in {self.unit!r}"
            return [Problem(where, rule, hint="give the value in that unit")]
        if objective.unit in _POSITIVE and self.relation in ("absolute", "of_baseline") and self.value <= 0:
            return [Problem(where, f"{self.meter} is above 0, so its limit must be too", self.value)]
        if objective.unit == "share" and self.relation != "of_baseline" and not 0 <= self.value <= 1:
            return [Problem(where, "a share lies between 0 and 1", self.value, "write it like 97% or 0.97")]
        return []

    def bound(self, baseline: Reading | None) -> float | None:
        """Return the bound in `unit`, given the baseline's reading; None if it depends on a reading that is missing."""
        if self.relation == "absolute":
            return self.value
        origin = baseline.value_in(self.unit) if baseline else None
        if origin is None:
            return None
        if self.relation == "of_baseline":
            return self.value * origin
        return origin - self.value if self.relation == "below_baseline" else origin + self.value

    def excess(self, reading: Reading | None, baseline: Reading | None) -> float:
        """Return by what share of the bound a reading misses it: zero or negative if it is met, inf if unknown."""
        value, bound = reading.value_in(self.unit) if reading else None, self.bound(baseline)
        if value is None or bound is None:
            return float("inf")
        missing = bound - value if self.side == "at_least" else value - bound
        excess = missing / (abs(bound) or 1.0)
        return 0.0 if 0 < excess < _ROUNDING else excess

    def to_document(self) -> dict[str, Json]:
        """Return plain data for JSON."""
        bound: dict[str, Json] = {"side": self.side, "relation": self.relation, "value": self.value, "unit": self.unit}
        return {"meter": self.meter, **bound, "words": str(self)}

    def __str__(self) -> str:
        """Describe the limit in words."""
        return f"{self.meter} {self.side.replace('_', ' ')} {self._bound_in_words()}"

    def _bound_in_words(self) -> str:
        if self.relation == "of_baseline":
            return f"{self.value:g} of the baseline"
        value = format_quantity(self.value, self.unit or "")
        if self.relation == "absolute":
            return value
        if self.unit == "share":
            value = f"{self.value * 100:g} points"
        return f"the baseline {'-' if self.relation == 'below_baseline' else '+'} {value}"


def parse_limits(documents: Iterable[Json], where: str = "limits") -> tuple[Limit, ...]:
    """Parse a list of limits. Raises `WrongInput` with the problems of all of them, placed at ``where[index]``."""
    limits: list[Limit] = []
    problems: list[Problem] = []
    for index, document in enumerate(documents):
        try:
            limits.append(Limit.parse(document, f"{where}[{index}]"))
        except WrongInput as error:
            problems += error.problems
    if problems:
        raise WrongInput(*problems)
    return tuple(limits)


def wished(at_least: Mapping[str, str | float] | None, at_most: Mapping[str, str | float] | None) -> list[Limit]:
    """Return the limits of a wish, given by meter, such as ``{"accuracy": "97%"}``.

    Raises `WrongInput` for a bound that is not a quantity.
    """
    sides: tuple[tuple[Side, Mapping[str, str | float] | None], ...] = (("at_least", at_least), ("at_most", at_most))
    return [
        Limit(meter_label(meter), side, *_quantity(text, f"--{side.replace('_', '-')} {meter}"))
        for side, given in sides
        for meter, text in (given or {}).items()
    ]


def _bound_of(bound: Json, where: str) -> tuple[float, str | None, Relation]:
    if not isinstance(bound, Mapping):
        return (*_quantity(bound, where), "absolute")
    if len(bound) != 1 or (relation := next(iter(bound))) not in _RELATIONS:
        rule = f"a bound is a quantity, or a mapping with one of {', '.join(_RELATIONS)}"
        raise WrongInput(Problem(where, rule, dict(bound), _EXAMPLES))
    value, unit = _quantity(bound[relation], f"{where}.{relation}")
    if relation != "of_baseline":
        return value, unit, cast(Relation, relation)
    if unit not in (None, "share", "ratio"):
        raise WrongInput(Problem(f"{where}.{relation}", "a factor has no unit", bound[relation], "write 0.5 or 50%"))
    return value, None, "of_baseline"


def _quantity(text: Json, where: str) -> tuple[float, str | None]:
    if not isinstance(text, str | int | float):
        raise WrongInput(Problem(where, "a bound is a number with an optional unit", text, _EXAMPLES))
    try:
        return parse_quantity(text)
    except ValueError as error:
        raise WrongInput(Problem(where, str(error))) from None
