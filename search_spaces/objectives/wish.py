"""A wish: limits and a preference that select one member of a front, given once or named in the sweep file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean
from paretta.search_spaces.objectives.limits import wished
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.roles import preferences

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_RESERVED: Final = re.compile(r"latest|v\d+")  # reserved by MLflow


@dataclass(frozen=True, slots=True)
class Wish:
    """Limits and a preference; `paretta.search_spaces.results.front.Front.pick` selects the member that fits.

    Args:
        prefer: ``knee``, the name of an objective, or that of its role, such as ``smallest``.
        at_least: minimum by meter, such as ``{"accuracy": "97%"}``.
        at_most: maximum by meter, such as ``{"size": "50kB"}``.
    """

    prefer: str = "knee"
    at_least: Mapping[str, str | float] = field(default_factory=dict)
    at_most: Mapping[str, str | float] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: Json) -> "Wish":
        """Read a wish from a sweep document that has been validated."""
        assert isinstance(document, Mapping)
        return cls(
            prefer=str(document.get("prefer", "knee")),
            at_least=_bounds(document.get("at_least")),
            at_most=_bounds(document.get("at_most")),
        )

    def check(self, name: str, objectives: Sequence[Objective], where: str) -> Iterator[Problem]:
        """Yield the problems of the wish called `name` in a sweep over `objectives`."""
        if rule := name_problem(name):
            yield Problem(where, rule, name)
        choices = ["knee", *preferences(objectives)]
        if self.prefer not in choices:
            yield Problem(f"{where}.prefer", did_you_mean(self.prefer, choices, "preference"))
        try:
            for limit in wished(self.at_least, self.at_most):
                yield from limit.check(objectives, where)
        except WrongInput as error:
            yield from (Problem(f"{where}: {p.where}", p.rule, p.value, p.hint) for p in error.problems)


def name_problem(name: str) -> str | None:
    """Return the rule that `name` breaks as the name of a wish, or None. It becomes an alias in MLflow's registry.

    >>> name_problem("phone")
    >>> name_problem("p95.latency")
    "a wish's name is 1 to 64 letters, digits, - and _, and starts with a letter"
    """
    if not _NAME.fullmatch(name):
        return "a wish's name is 1 to 64 letters, digits, - and _, and starts with a letter"
    return "MLflow reserves this alias" if _RESERVED.fullmatch(name) else None


def _bounds(document: Json) -> dict[str, str | float]:
    bounds = document if isinstance(document, Mapping) else {}
    return {meter: bound for meter, bound in bounds.items() if isinstance(bound, str | int | float)}
