"""Settings per layer by name patterns such as ``conv*``; the first match wins."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

from paretta.search_spaces.errors import Problem, WrongInput, did_you_mean

_T = TypeVar("_T")


def by_pattern(patterns: Mapping[str, _T], names: Iterable[str], where: str, noun: str = "layer") -> dict[str, _T]:
    """Return the setting of each name that a pattern matches, in the order of the names; `noun` is what they name.

    Raises:
        WrongInput: a pattern matches no name, which must be a mistake.

    >>> by_pattern({"conv*": 4, "*": 8}, ["conv1", "fc"], "quantize.bits")
    {'conv1': 4, 'fc': 8}
    """
    known = list(names)
    idle = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in known)]
    if idle:
        raise WrongInput(*(Problem(where, did_you_mean(pattern, known, noun)) for pattern in idle))
    found = {name: next((p for p in patterns if fnmatchcase(name, p)), None) for name in known}
    return {name: patterns[pattern] for name, pattern in found.items() if pattern is not None}
