"""A search space: a plan with holes, which an asker fills."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.space.holes import Choice, Float, Hole, Int, Label, Tree, count, parse_tree, probes
from paretta.search_spaces.space.plan import Plan

MAX_OPTIONS: Final = 300  # in all choices together; with more, corners include only evenly spaced options


class Asker(Protocol):
    """Fills holes: implemented by search algorithms, by tests and by the enumeration of corners."""

    def ask(self, name: str, hole: Hole) -> Label:
        """Return a number within the range, or one of the `labels` of a `Choice`."""


@dataclass(frozen=True, slots=True)
class Knob:
    """A hole with its name, and the labels that other choices must have for the hole to be reached."""

    name: str
    hole: Hole
    given: tuple[tuple[str, Label], ...] = ()


@dataclass(slots=True)
class Recorder:
    """Forwards questions to another asker and records the answers by name."""

    asker: Asker
    knobs: dict[str, Label] = field(default_factory=dict)

    def ask(self, name: str, hole: Hole) -> Label:
        """Ask, and record the answer."""
        answer = self.asker.ask(name, hole)
        self.knobs[name] = answer
        return answer


@dataclass(frozen=True, slots=True)
class Pinned:
    """Answers from a mapping by knob name; a missing knob gets its first option or its low end."""

    answers: Mapping[str, Label]

    def ask(self, name: str, hole: Hole) -> Label:
        """Return the pinned answer, or the first possible one."""
        if name in self.answers:
            return self.answers[name]
        return hole.labels[0] if isinstance(hole, Choice) else hole.low


@dataclass(slots=True)
class _CornerAsker:
    """Picks one end of every range, and for every choice the pinned option or else the first or last one."""

    pins: Mapping[str, Label]
    high: bool
    asked: dict[str, tuple[Choice, Label]] = field(default_factory=dict)

    def ask(self, name: str, hole: Hole) -> Label:
        if isinstance(hole, Choice):
            label = self.pins.get(name, hole.labels[-1 if self.high else 0])
            self.asked[name] = (hole, label)
            return label
        if isinstance(hole, Int):
            return hole.low + (hole.high - hole.low) // hole.step * hole.step if self.high else hole.low
        return hole.high if self.high else hole.low


@dataclass(frozen=True, slots=True)
class Space:
    """Stage documents with holes.

    A knob is named after the stage's kind and its path inside the stage, such as ``prune.sparsity``; if two stages
    share a kind, also after the step, such as ``prune@step2.sparsity``. The name of a knob inside an option of a choice
    contains the option, such as ``prune.schedule[cubic].steps``.

    >>> space = Space.parse([], [{"kind": "quantize", "bits": {"int": [2, 8]}}])
    >>> [knob.name for knob in space.knobs()], space.cardinality()
    (['quantize.bits'], 7)
    >>> [plan.stages[0]["bits"] for plan in space.corners()]
    [2, 8]
    """

    baseline: tuple[Document, ...]
    steps: tuple[Tree, ...]
    names: Mapping[str, str] = field(init=False, repr=False, compare=False)  # of each stage, by its path

    def __post_init__(self) -> None:
        """Name the stages once."""
        object.__setattr__(self, "names", stage_names(self.steps))

    @classmethod
    def parse(cls, baseline: Sequence[Document], steps: Sequence[Json], where: str = "space") -> "Space":
        """Parse plain data. Raises `WrongInput` with every invalid range, choice and stage."""
        problems: list[Problem] = []
        trees = tuple(parse_tree(step, f"{where}[{index}]", problems) for index, step in enumerate(steps))
        for index, tree in enumerate(trees):
            _check_step(tree, f"{where}[{index}]", problems)
        if problems:
            raise WrongInput(*problems)
        return cls(tuple(baseline), trees)

    def fill(self, asker: Asker) -> Plan:
        """Ask for every reachable hole, in order, and return the plan."""
        filler = _Filler(asker, self.names)
        stages = [filler.step(step, f"step{index + 1}") for index, step in enumerate(self.steps)]
        return Plan(self.baseline, tuple(stage for stage in stages if stage is not None))

    def corners(self) -> Iterator[Plan]:
        """Yield plans in which every option of every choice and both ends of every range appear at least once.

        If the choices have more than `MAX_OPTIONS` options in all, only evenly spaced options of each are included, and
        at most twice `MAX_OPTIONS` plans are yielded.
        """
        return islice(self._corners(), 2 * MAX_OPTIONS)

    def _corners(self) -> Iterator[Plan]:
        widths = [len(knob.hole.labels) for knob in self.knobs() if isinstance(knob.hole, Choice)]
        at_most = max(2, MAX_OPTIONS // len(widths)) if sum(widths) > MAX_OPTIONS else MAX_OPTIONS
        waiting = deque[dict[str, Label]]([{}])
        seen: set[tuple[str, Label]] = set()
        while waiting:
            pins = waiting.popleft()
            for high in (False, True):
                asker = _CornerAsker(pins, high)
                yield self.fill(asker)
                for name, (hole, taken) in asker.asked.items():
                    seen.add((name, taken))
                    for label in probes(hole, at_most):
                        if (name, label) not in seen:
                            seen.add((name, label))
                            waiting.append({**pins, name: label})

    def knobs(self) -> tuple[Knob, ...]:
        """Return the holes of all branches, each with the choices that lead to it."""
        lister = _Lister(self.names)
        return tuple(k for index, step in enumerate(self.steps) for k in lister.knobs(step, f"step{index + 1}"))

    def cardinality(self) -> float:
        """Count the distinct plans; infinite if the space contains a float range."""
        return count(list(self.steps))


def _check_step(tree: Tree, where: str, problems: list[Problem]) -> None:
    if isinstance(tree, Choice):
        for index, option in enumerate(tree.options):
            if option is not None:
                _check_step(option, f"{where}.choice[{index}]", problems)
    elif not isinstance(tree, dict) or "kind" not in tree:
        found = sorted(tree) if isinstance(tree, dict) else tree
        problems.append(Problem(where, "a stage needs its `kind`", found, "write kind: prune, or another stage"))
    elif not isinstance(tree["kind"], str):
        problems.append(Problem(f"{where}.kind", "must be the name of a stage", tree["kind"], "write kind: prune"))


def stage_names(steps: Sequence[Tree]) -> dict[str, str]:
    """Name each stage by its kind if that is unique, else by kind and step, else by its whole path.

    A kind that names code, such as ``./mine.py:Mine``, is shortened to the part after the colon.
    """
    stages = [found for index, step in enumerate(steps) for found in _stages_in(step, f"step{index + 1}")]
    kinds = [(path, str(tree["kind"]).rpartition(":")[2]) for path, tree in stages]
    in_space = Counter(kind for _, kind in kinds)
    in_step = Counter((path.partition("[")[0], kind) for path, kind in kinds)
    names = {}
    for path, kind in kinds:
        step = path.partition("[")[0]
        names[path] = kind if in_space[kind] == 1 else f"{kind}@{step}" if in_step[step, kind] == 1 else path
    return names


def kinds_of(steps: Sequence[Tree]) -> tuple[str, ...]:
    """Return the kinds of the stages in all branches, without repetition, in order of first appearance."""
    return tuple(dict.fromkeys(str(tree["kind"]) for step in steps for _, tree in _stages_in(step, "")))


def _stages_in(tree: Tree, path: str) -> Iterator[tuple[str, Mapping[str, Tree]]]:
    if isinstance(tree, Choice):
        for label, option in zip(tree.labels, tree.options, strict=True):
            yield from _stages_in(option, f"{path}[{label}]")
    elif isinstance(tree, dict):
        yield path, tree


@dataclass(slots=True)
class _Filler:
    """Walks the trees and asks for each hole it reaches."""

    asker: Asker
    names: Mapping[str, str]

    def step(self, tree: Tree, path: str) -> Document | None:
        while isinstance(tree, Choice):
            label = self.asker.ask(path, tree)
            tree, path = tree.option(label), f"{path}[{label}]"
        if tree is None:
            return None
        filled = self.value(tree, self.names[path])
        assert isinstance(filled, dict)
        return filled

    def value(self, tree: Tree, name: str) -> Json:
        match tree:
            case Choice():
                label = self.asker.ask(name, tree)
                return self.value(tree.option(label), f"{name}[{label}]")
            case Int() | Float():
                return self.asker.ask(name, tree)
            case dict():
                return {key: self.value(item, f"{name}.{key}") for key, item in tree.items()}
            case list():
                return [self.value(item, f"{name}[{index}]") for index, item in enumerate(tree)]
            case _:
                return tree


@dataclass(frozen=True, slots=True)
class _Lister:
    """Walks every branch once and lists the holes under the names that `_Filler` uses."""

    names: Mapping[str, str]

    def knobs(self, tree: Tree, name: str, given: tuple[tuple[str, Label], ...] = ()) -> Iterator[Knob]:
        match tree:
            case Choice():
                yield Knob(name, tree, given)
                for label, option in zip(tree.labels, tree.options, strict=True):
                    yield from self.knobs(option, f"{name}[{label}]", (*given, (name, label)))
            case Int() | Float():
                yield Knob(name, tree, given)
            case dict():
                name = self.names.get(name, name)
                for key, item in tree.items():
                    yield from self.knobs(item, f"{name}.{key}", given)
            case list():
                for index, item in enumerate(tree):
                    yield from self.knobs(item, f"{name}[{index}]", given)
            case _:
                return
