"""Encode knobs as numbers: draw configurations and their one-knob neighbours, and compute model inputs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from paretta.orchestrator.policy.array import Array
from paretta.search_spaces.space.holes import Choice, Float, Hole, Int, Label
from paretta.search_spaces.space.space import Knob

Configuration: TypeAlias = Mapping[str, Label]

_ALL_STEPS = 12  # `neighbours` enumerates a range or choice with at most this many values
_STRIDES = (0.03, 0.1, 0.3)  # standard deviations of a step along a longer range, as fractions of its length


@dataclass(frozen=True, slots=True)
class Coordinates:
    """A mixed space with conditional knobs as rows of codes.

    A code is a position on the unit interval for a range (on a log scale for a log range), the index of the option for
    a choice, and NaN for an inactive knob. A knob is active if every choice named in its `given` has taken one of the
    labels listed there.

    >>> space = Coordinates((Knob("bits", Choice((2, 4, 8))), Knob("rate", Float(0.001, 0.1, log=True))))
    >>> space.decode(space.encode({"bits": 4, "rate": 0.01}))
    {'bits': 4, 'rate': 0.01}
    >>> space.inputs(np.array([[2.0, 0.5]])).round(3)
    array([[1.732, 0.   ]])
    """

    knobs: tuple[Knob, ...]
    _labels: tuple[tuple[Label, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Cache the choices' labels."""
        labels = tuple(knob.hole.labels if isinstance(knob.hole, Choice) else () for knob in self.knobs)
        object.__setattr__(self, "_labels", labels)

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Draw `count` configurations uniformly, as codes [count, knobs]."""
        unit = rng.random((count, len(self.knobs)))
        columns = [self._snap(knob.hole, unit[:, index]) for index, knob in enumerate(self.knobs)]
        return self._deactivate(np.stack(columns, axis=1) if columns else unit)

    def neighbours(self, code: Array, rng: np.random.Generator) -> Array:
        """Return the configurations that differ from `code` [knobs] in one knob, and in the knobs that it activates.

        Short ranges and choices are enumerated; on longer ranges a few random steps of three lengths are taken.
        """
        full = np.where(np.isnan(code), self.draw(1, rng)[0], code)
        full = np.where(np.isnan(full), 0.0, full)
        rows = []
        for index, knob in enumerate(self.knobs):
            if np.isnan(code[index]):
                continue
            for value in self._steps(knob.hole, float(code[index]), rng):
                row = full.copy()
                row[index] = value
                rows.append(row)
        return self._deactivate(np.array(rows)) if rows else np.empty((0, len(self.knobs)))

    def inputs(self, codes: Array) -> Array:
        """Return the model inputs of `codes` [n, knobs]: positions and, for unordered choices, one-hot indicators.

        All inputs are standardised to mean 0 and variance 1 under a uniform draw. An inactive knob is at its mean.
        """
        columns: list[Array] = []
        for index, knob in enumerate(self.knobs):
            column, count = codes[:, index], _indicators(knob.hole)
            if count:
                share = 1.0 / count
                block = ((column[:, None] == np.arange(count)) - share) / (share * (1.0 - share)) ** 0.5
                columns.append(np.where(np.isnan(column)[:, None], 0.0, block))
                continue
            unit = column / max(len(knob.hole.options) - 1, 1) if isinstance(knob.hole, Choice) else column
            columns.append(np.where(np.isnan(unit), 0.0, standardised(unit))[:, None])
        return np.hstack(columns) if columns else np.empty((len(codes), 0))

    @property
    def num_inputs(self) -> int:
        """Count the columns of `inputs`."""
        return sum(_indicators(knob.hole) or 1 for knob in self.knobs)

    def decode(self, code: Array) -> dict[str, Label]:
        """Return the configuration of one row of codes, without inactive knobs."""
        return {
            knob.name: labels[int(value)] if labels else _value(knob.hole, value)
            for knob, labels, value in zip(self.knobs, self._labels, code.tolist(), strict=True)
            if not math.isnan(value)
        }

    def encode(self, config: Configuration) -> Array:
        """Return the codes of a configuration; values outside a range are clipped to it.

        Raises:
            ValueError: a choice has no such option.
        """
        codes = [
            np.nan if knob.name not in config else labels.index(value) if labels else _code(knob.hole, value)
            for knob, labels in zip(self.knobs, self._labels, strict=True)
            for value in [config.get(knob.name)]
        ]
        return np.array(codes, dtype=np.float64)

    def keys(self, codes: Array) -> list[bytes]:
        """Return one key per row, equal exactly where the configurations are."""
        rounded = np.round(np.where(np.isnan(codes), -1.0, codes), 9) + 0.0
        return [row.tobytes() for row in rounded]

    def _snap(self, hole: Hole, unit: Array) -> Array:
        if isinstance(hole, Choice):
            return np.minimum(np.floor(unit * len(hole.options)), len(hole.options) - 1)
        if isinstance(hole, Int):
            return np.array([_code(hole, _value(hole, float(u))) for u in _widened(hole, unit)])
        return unit

    def _deactivate(self, codes: Array) -> Array:
        """Set knobs to NaN that the earlier choices of a row do not activate."""
        column = {knob.name: index for index, knob in enumerate(self.knobs)}
        for index, knob in enumerate(self.knobs):
            for name in {name for name, _ in knob.given}:
                parent = self.knobs[column[name]].hole
                assert isinstance(parent, Choice)
                asking = [parent.labels.index(label) for other, label in knob.given if other == name]
                codes[~np.isin(codes[:, column[name]], asking), index] = np.nan
        return codes

    def _steps(self, hole: Hole, code: float, rng: np.random.Generator) -> list[float]:
        if isinstance(hole, Choice):
            others = [float(index) for index in range(len(hole.options)) if index != code]
            if len(others) <= _ALL_STEPS:
                return others
            return [others[index] for index in rng.choice(len(others), _ALL_STEPS, replace=False)]
        if isinstance(hole, Int) and (hole.high - hole.low) // hole.step < _ALL_STEPS:
            values = range(hole.low, hole.high + 1, hole.step)
            return [step for value in values if (step := _code(hole, value)) != code]
        steps = code + rng.normal(size=len(_STRIDES)) * _STRIDES
        clipped: list[float] = np.clip(steps, 0.0, 1.0).tolist()
        if isinstance(hole, Int):
            clipped = [_code(hole, _value(hole, step)) for step in clipped]
        return [step for step in clipped if step != code]


def standardised(unit: Array) -> Array:
    """Standardise values that are uniform on the unit interval to mean 0 and variance 1."""
    return np.asarray((unit - 0.5) * 12.0**0.5)


def _indicators(hole: Hole) -> int:
    """Return the number of indicator columns of an unordered choice; 0 for every other hole."""
    if not isinstance(hole, Choice) or len(hole.options) <= 2:
        return 0
    labels = hole.labels
    ordered = all(isinstance(label, int | float) and not isinstance(label, bool) for label in labels)
    return 0 if ordered and list(labels) == sorted(labels, key=_as_number) else len(labels)


def _as_number(label: Label) -> float:
    assert isinstance(label, int | float)
    return float(label)


def _widened(hole: Int, unit: Array) -> Array:
    """Stretch the unit interval by half a step at both ends, so that every whole number is equally likely."""
    count = (hole.high - hole.low) // hole.step
    return unit if hole.log or not count else (unit * (count + 1) - 0.5) / count


def _value(hole: Hole, code: float) -> Label:
    if isinstance(hole, Choice):
        return hole.labels[int(code)]
    low, high = (math.log(hole.low), math.log(hole.high)) if hole.log else (hole.low, hole.high)
    position = low + code * (high - low)
    value = math.exp(position) if hole.log else position
    if isinstance(hole, Float):
        return float(f"{min(max(value, hole.low), hole.high):.12g}")
    steps = round((value - hole.low) / hole.step)
    return min(max(hole.low + steps * hole.step, hole.low), hole.low + (hole.high - hole.low) // hole.step * hole.step)


def _code(hole: Hole, value: Label) -> float:
    if isinstance(hole, Choice):
        return float(hole.labels.index(value))
    assert isinstance(value, int | float)
    if hole.low == hole.high:
        return 0.0
    low, high, at = (math.log(v) if hole.log else v for v in (hole.low, hole.high, value))
    return min(max((at - low) / (high - low), 0.0), 1.0)
