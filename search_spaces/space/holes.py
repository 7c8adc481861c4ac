"""The holes of a space: a choice, an integer range or a float range."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, Union

from paretta.search_spaces.canonical import Json, canonical_json
from paretta.search_spaces.errors import Problem

Tree: TypeAlias = Union[bool, int, float, str, list["Tree"], dict[str, "Tree"], "Hole", None]
Label: TypeAlias = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several options; an option may be a whole subtree with holes of its own.

    An asker answers with one of the `labels`: the option itself if it is a scalar, else its ``kind`` or its position.

    Args:
        options: any sequence of them; it is kept as a tuple.
    """

    options: tuple[Tree, ...]
    labels: tuple[Label, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Label each option with a unique scalar, in order."""
        object.__setattr__(self, "options", tuple(self.options))
        names = [_label(option, index) for index, option in enumerate(self.options)]
        times = Counter(names)
        labels = (f"{name}#{index}" if times[name] > 1 else name for index, name in enumerate(names))
        object.__setattr__(self, "labels", tuple(labels))

    def option(self, label: Label) -> Tree:
        """Return the option with this label."""
        return self.options[self.labels.index(label)]


@dataclass(frozen=True, slots=True)
class Int:
    """An integer from `low` to `high`, both included, in steps of `step`."""

    low: int
    high: int
    log: bool = False
    step: int = 1


@dataclass(frozen=True, slots=True)
class Float:
    """A real number from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False


Hole: TypeAlias = Choice | Int | Float


def _label(option: Tree, index: int) -> Label:
    if isinstance(option, dict):
        kind = option.get("kind")
        return kind if isinstance(kind, str) else f"option{index}"
    return option if option is None or isinstance(option, bool | int | float | str) else f"option{index}"


def probes(hole: Hole, at_most: int) -> tuple[Label, ...]:
    """Return at most `at_most` values of a hole: all of them, or evenly spaced ones that include both ends.

    >>> probes(Int(2, 8), 9), probes(Float(0, 1), 3), probes(Choice(tuple("abcdef")), 3)
    ((2, 3, 4, 5, 6, 7, 8), (0, 0.5, 1), ('a', 'c', 'f'))
    """
    match hole:
        case Choice():
            return tuple(hole.labels[place] for place in spread(len(hole.labels), at_most))
        case Int():
            return tuple(hole.low + place * hole.step for place in spread(int(count(hole)), at_most))
        case Float():
            inner = (hole.low + (hole.high - hole.low) * part / (at_most - 1) for part in range(1, at_most - 1))
            return tuple(dict.fromkeys((hole.low, *inner, hole.high)))


def spread(length: int, at_most: int) -> list[int]:
    """Return at most `at_most` indices of a list, evenly spaced, including the first and the last.

    >>> spread(3, 5), spread(10, 4)
    ([0, 1, 2], [0, 3, 6, 9])
    """
    if length <= at_most:
        return list(range(length))
    return [place * (length - 1) // (at_most - 1) for place in range(at_most)]


def count(tree: Tree) -> float:
    """Count the ways to fill `tree`; infinite if it contains a float range.

    >>> count({"bits": Int(2, 8), "score": Choice(("l1", "l2"))})
    14
    """
    match tree:
        case Choice():
            return sum(count(option) for option in tree.options)
        case Int():
            return (tree.high - tree.low) // tree.step + 1
        case Float():
            return 1 if tree.low == tree.high else math.inf
        case dict():
            return math.prod(count(value) for value in tree.values())
        case list():
            return math.prod(count(value) for value in tree)
        case _:
            return 1


def parse_tree(raw: Json, where: str, problems: list[Problem]) -> Tree:
    """Parse plain data into a tree, with ``{choice: [...]}``, ``{int: [a, b]}`` and ``{float: [a, b]}`` as holes.

    Problems are appended to `problems`, each with its path.

    >>> parse_tree({"sparsity": {"float": [0, 0.5]}}, "space[0]", [])
    {'sparsity': Float(low=0, high=0.5, log=False)}
    """
    if isinstance(raw, Mapping):
        named = [name for name in ("choice", "int", "float") if name in raw]
        if named and "kind" not in raw:
            return _parse_hole(named[0], raw, where, problems)
        return {key: parse_tree(value, f"{where}.{key}", problems) for key, value in raw.items()}
    if isinstance(raw, Sequence) and not isinstance(raw, str):
        return [parse_tree(value, f"{where}[{index}]", problems) for index, value in enumerate(raw)]
    return raw


def _parse_hole(name: str, raw: Mapping[str, Json], where: str, problems: list[Problem]) -> Tree:
    allowed = {"choice": set[str](), "int": {"log", "step"}, "float": {"log"}}[name]
    for key in sorted(set(raw) - allowed - {name}):
        rule = f"a {name} range takes only {', '.join(sorted(allowed)) or 'its list'} beside it"
        problems.append(Problem(f"{where}.{key}", rule, raw[key], "remove it"))
    if name == "choice":
        return _parse_choice(raw[name], where, problems)
    return _parse_range(name, raw, where, problems)


def _parse_choice(options: Json, where: str, problems: list[Problem]) -> Tree:
    if not isinstance(options, Sequence) or isinstance(options, str) or not options:
        problems.append(Problem(where, "`choice` needs a list of at least one option", options, "write choice: [a, b]"))
        return None
    seen: dict[str, int] = {}
    for index, option in enumerate(options):
        if seen.setdefault(canonical_json(option), index) != index:
            rule = f"`choice` options must differ; number {seen[canonical_json(option)] + 1} says the same"
            problems.append(Problem(f"{where}.choice[{index}]", rule, option, "remove one"))
    return Choice(tuple(parse_tree(option, f"{where}.choice[{i}]", problems) for i, option in enumerate(options)))


def _parse_range(name: str, raw: Mapping[str, Json], where: str, problems: list[Problem]) -> Tree:
    bounds, log, step = raw[name], raw.get("log", False), raw.get("step", 1)
    found = len(problems)
    kind = "whole numbers" if name == "int" else "numbers"
    if not (isinstance(bounds, Sequence) and len(bounds) == 2 and all(_is_number(b, name) for b in bounds)):
        problems.append(Problem(where, f"`{name}` needs two {kind}", bounds, f"write {name}: [low, high]"))
        return None
    low, high = bounds
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if low > high:
        hint = f"write {name}: [{high}, {low}]"
        problems.append(Problem(where, "a range goes from low to high", list(bounds), hint))
    if not isinstance(log, bool):
        problems.append(Problem(f"{where}.log", "`log` is true or false", log))
    elif log and low <= 0:
        problems.append(Problem(where, "a log range starts above 0", low, "raise low, or drop `log`"))
    if not _is_number(step, "int") or (isinstance(step, int) and step < 1):
        problems.append(Problem(f"{where}.step", "`step` is a whole number of at least 1", step))
    elif log and step != 1:
        problems.append(Problem(f"{where}.step", "a log range has no step", step, "drop `step` or `log`"))
    if len(problems) > found:
        return None
    if name == "float":
        return Float(low, high, log is True)
    return Int(int(low), int(high), log is True, int(step) if isinstance(step, int) else 1)


def _is_number(value: Json, name: str) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) if name == "int" else isinstance(value, int | float) and math.isfinite(value)
