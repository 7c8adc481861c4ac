"""The inverse of filling a space: the answers that produce a given plan."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from paretta.search_spaces.canonical import Json, canonical_json
from paretta.search_spaces.space.holes import Choice, Float, Int, Label, Tree
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import Pinned, Recorder, Space, stage_names


def knobs_of(space: Space, plan: Plan) -> dict[str, Label] | None:
    """Return the answers, by knob name, with which filling `space` gives `plan`; None if there are none.

    >>> space = Space.parse([], [{"choice": [None, {"kind": "prune", "sparsity": {"float": [0, 0.5]}}]}])
    >>> knobs_of(space, Plan((), ({"kind": "prune", "sparsity": 0.25},)))
    {'step1': 'prune', 'prune.sparsity': 0.25}
    >>> knobs_of(space, Plan((), ({"kind": "prune", "sparsity": 0.75},))) is None
    True
    """
    names = stage_names(space.steps)
    for answers in _steps(space.steps, list(plan.stages), names, 1):
        recorder = Recorder(Pinned(answers))
        if space.fill(recorder).fingerprint == plan.fingerprint:
            return dict(answers)
    return None


def _steps(
    steps: Sequence[Tree], stages: list[Json], names: Mapping[str, str], number: int
) -> Iterator[dict[str, Label]]:
    if not steps:
        if not stages:
            yield {}
        return
    for answers, taken in _step(steps[0], stages, names, f"step{number}"):
        for others in _steps(steps[1:], stages[taken:], names, number + 1):
            yield {**answers, **others}


def _step(
    tree: Tree, stages: list[Json], names: Mapping[str, str], path: str
) -> Iterator[tuple[dict[str, Label], int]]:
    """Yield the answers with which a step matches the next stage, with a count of 1, or no stage, with 0."""
    if isinstance(tree, Choice):
        for label in tree.labels:
            for answers, taken in _step(tree.option(label), stages, names, f"{path}[{label}]"):
                yield {path: label, **answers}, taken
    elif tree is None:
        yield {}, 0
    elif stages:
        for answers in _values(tree, stages[0], names[path]):
            yield answers, 1


def _values(tree: Tree, value: Json, name: str) -> Iterator[dict[str, Label]]:
    match tree:
        case Choice():
            for label in tree.labels:
                for answers in _values(tree.option(label), value, f"{name}[{label}]"):
                    yield {name: label, **answers}
        case Int() | Float():
            if _in_range(tree, value):
                assert isinstance(value, int | float)
                yield {name: value}
        case dict():
            if isinstance(value, Mapping) and set(value) == set(tree):
                yield from _joined([list(_values(item, value[key], f"{name}.{key}")) for key, item in tree.items()])
        case list():
            if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == len(tree):
                pairs = enumerate(zip(tree, value, strict=True))
                yield from _joined([list(_values(item, own, f"{name}[{index}]")) for index, (item, own) in pairs])
        case _:
            if canonical_json(tree) == canonical_json(value):
                yield {}


def _joined(parts: list[list[dict[str, Label]]]) -> Iterator[dict[str, Label]]:
    for combination in product(*parts):
        yield {name: label for answers in combination for name, label in answers.items()}


def _in_range(hole: Int | Float, value: Json) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not hole.low <= value <= hole.high:
        return False
    return isinstance(hole, Float) or (float(value).is_integer() and (value - hole.low) % hole.step == 0)
