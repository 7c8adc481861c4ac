"""Every combination of evenly spaced values, in random order: the coarsest grid with the requested number of plans."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from paretta.orchestrator.search.interfaces import Strategy
from paretta.orchestrator.search.optuna_strategy import OptunaStrategy, distribution, parameter
from paretta.orchestrator.search.spec import Search
from paretta.search_spaces.space.holes import Choice, Float, Hole, Int, Label, Tree, count
from paretta.search_spaces.space.space import Recorder

_MOST_VALUES = 32
_MOST_PLANS = 10**15


def make(search: Search) -> Strategy:
    """Make a grid of all options of choices and as many values of ranges as the requested number of plans needs.

    Conditional knobs count only where they are active. A grid spends most of its trials on knobs that matter little
    (Bergstra and Bengio 2012), so use it to cover a small space.
    """
    steps = list(search.space.steps)
    sizes = [(values, count(_coarse(steps, values))) for values in range(2, _MOST_VALUES + 1)]
    values, size = next((pair for pair in sizes if pair[1] >= search.num_trials), sizes[-1])
    return OptunaStrategy(search, _GridSampler(search, values, int(min(size, _MOST_PLANS))))


def spaced(hole: Int | Float, most_values: int) -> Choice:
    """Return up to `most_values` values of a range, evenly spaced from end to end, on a log scale for a log range.

    >>> spaced(Int(2, 8), 3), spaced(Float(0.0, 1.0), 3)
    (Choice(options=(2, 5, 8)), Choice(options=(0.0, 0.5, 1.0)))
    """
    low, high = (math.log(hole.low), math.log(hole.high)) if hole.log else (hole.low, hole.high)
    at = [low + (high - low) * step / (most_values - 1) for step in range(most_values)]
    values = [min(max(math.exp(x) if hole.log else x, hole.low), hole.high) for x in at]
    if isinstance(hole, Int):
        values = [hole.low + round((value - hole.low) / hole.step) * hole.step for value in values]
        values = [value for value in values if value <= hole.high]
    return Choice(tuple(dict.fromkeys(values)))


@dataclass(slots=True)
class _Unranker:
    """Gives the answers of the plan with a given index in an enumeration of the coarse space."""

    index: int
    values: int

    def ask(self, name: str, hole: Hole) -> Label:
        choice = hole if isinstance(hole, Choice) else spaced(hole, self.values)
        counts = [int(count(_coarse(option, self.values))) for option in choice.options]
        rest, own = divmod(self.index, sum(counts))
        for label, size in zip(choice.labels, counts, strict=True):
            if own < size:
                self.index = own + size * rest  # the option's own holes are asked for next and consume `own`
                return label
            own -= size
        raise AssertionError("the number lies within the sum of the counts")


class _GridSampler(BaseSampler):
    """Takes the plans of the grid in random order, and random plans after the last one."""

    def __init__(self, search: Search, values: int, size: int) -> None:
        self._space, self._values = search.space, values
        order = random.Random(search.seed)  # noqa: S311 - a search, not a secret
        self._left = order.sample(range(size), min(size, 2 * search.num_trials))
        self._random = RandomSampler(seed=search.seed)
        self._holes = {knob.name: knob.hole for knob in search.space.knobs()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all parameters."""
        return {parameter(name, hole): distribution(hole) for name, hole in self._holes.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of the next plan of the grid."""
        if not self._left:
            return {}
        recorder = Recorder(_Unranker(self._left.pop(), self._values))
        self._space.fill(recorder)
        return {parameter(name, self._holes[name]): value for name, value in recorder.knobs.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a parameter at random."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def _coarse(tree: Tree, values: int) -> Tree:
    match tree:
        case Int() | Float():
            return spaced(tree, values)
        case Choice():
            return Choice(tuple(_coarse(option, values) for option in tree.options))
        case dict():
            return {key: _coarse(item, values) for key, item in tree.items()}
        case list():
            return [_coarse(item, values) for item in tree]
        case _:
            return tree
