"""What sweeps of other tasks say about a search: their results, in the terms of its own space."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Final, cast

import numpy as np

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.encoding import Coordinates
from paretta.orchestrator.policy.prior import Lessons, Prior
from paretta.orchestrator.search.losses import LossScale
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.holes import Choice, Hole, Label
from paretta.search_spaces.space.space import Knob

LEAST_RESULTS: Final = 10  # fewer results say too little
MOST_RESULTS: Final = 400
LEAST_SHARED: Final = 0.5  # the share of this space's knobs that a sweep must have too
_SMALLEST_ERROR: Final = 1e-3  # below it a ratio of errors is noise
_DIGITS: Final = 4
_STEP: Final = re.compile(r"@step\d+")
_CHOICE_OF_STAGE: Final = re.compile(r"step\d+")


@dataclass(frozen=True, slots=True)
class PastResult:
    """One finished trial of a sweep.

    Args:
        sweep: its name.
        knobs: the values of its knobs by name.
        gains: its losses less those of its own baseline, by meter: see `gain_of`.
    """

    sweep: str
    knobs: Mapping[str, Label]
    gains: Mapping[str, float]


def gain_of(scale: LossScale, value: float) -> float:
    """Return a reading's loss less the baseline's on the model's scale: the logarithm of errors' ratio for a share.

    >>> from paretta.search_spaces.objectives.objective import Objective
    >>> round(gain_of(LossScale(Objective("accuracy", "max", "share"), 0.9, 1.0), 0.8), 3)
    0.693
    """
    return _on_scale(scale, scale.learned(value)) - _on_scale(scale, scale.learned(scale.baseline))


@dataclass(frozen=True, slots=True)
class Experience:
    """What a search learns from earlier sweeps.

    Args:
        sweeps: their names.
        lessons: their results in the terms of the search; the gains are of `meters`.
        meters: the learned objectives.
    """

    sweeps: tuple[str, ...]
    lessons: Lessons
    meters: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in one line."""
        count, results = len(self.sweeps), len(self.lessons.inputs)
        return f"learned from {count} sweep{'s' * (count != 1)}, {results} results"

    def to_document(self) -> Document:
        """Return plain data for the journal; numbers are rounded as `lessons_of` rounds them."""
        inputs, gains = self.lessons.inputs.tolist(), self.lessons.gains.tolist()
        return {"sweeps": list(self.sweeps), "meters": list(self.meters), "inputs": inputs, "gains": gains}

    @classmethod
    def from_document(cls, document: Document) -> "Experience":
        """Read what `to_document` wrote."""
        sweeps, meters = (tuple(cast(list[str], document[part])) for part in ("sweeps", "meters"))
        inputs, gains = (np.array(document[part], dtype=np.float64) for part in ("inputs", "gains"))
        return cls(sweeps, Lessons(inputs, gains), meters)

    def prior(self, scales: Sequence[LossScale], seed: int) -> Prior | None:
        """Return the prior of a search whose learned objectives have these `scales`, or None if it has none."""
        if self.meters != tuple(scale.objective.meter for scale in scales):
            return None
        level = np.array([_on_scale(scale, scale.learned(scale.baseline)) for scale in scales])
        try:
            return Prior.of(self.lessons, level, seed=seed)
        except np.linalg.LinAlgError:
            return None


def experience_of(results: Sequence[PastResult], knobs: tuple[Knob, ...], meters: Sequence[str]) -> Experience | None:
    """Return the results that apply to a space with these `knobs`, in its terms; None if they are too few.

    A sweep applies if it has half of the knobs, and a result of it if it has all of `meters`. A knob is matched by the
    stage's kind and the setting, wherever the stage stands; one of a pattern of layers by its pattern, or else by its
    relative place among those of the same setting. A value beyond this space's range counts as its end, and one that is
    not known as the middle. At most `MOST_RESULTS` are taken, the same number of each sweep as far as they go.
    """
    space, rows, gains, sweeps = Coordinates(knobs), list[Array](), list[list[float]](), list[str]()
    by_sweep: dict[str, list[PastResult]] = {}
    for result in results:
        if {*meters} <= {*result.gains}:
            by_sweep.setdefault(result.sweep, []).append(result)
    sources = {sweep: _sources(knobs, own) for sweep, own in by_sweep.items()}
    apply = [sweep for sweep in by_sweep if len(sources[sweep]) >= max(1.0, LEAST_SHARED * len(knobs))]
    for sweep, result in _in_turn({sweep: by_sweep[sweep] for sweep in apply}):
        values = [result.knobs.get(sources[sweep].get(knob.name, "")) for knob in knobs]
        rows.append(np.array([_code(knob.hole, value) for knob, value in zip(knobs, values, strict=True)]))
        gains.append([result.gains[meter] for meter in meters])
        sweeps.append(sweep)
    if not meters or len(rows) < LEAST_RESULTS:
        return None
    lessons = Lessons(space.inputs(np.array(rows)).round(_DIGITS), np.array(gains).round(_DIGITS))
    return Experience(tuple(dict.fromkeys(sweeps)), lessons, tuple(meters))


def _in_turn(by_sweep: Mapping[str, Sequence[PastResult]]) -> Iterator[tuple[str, PastResult]]:
    """Yield one result of each sweep after the other, the latest first, up to `MOST_RESULTS` in all."""
    turns = zip_longest(*([(sweep, result) for result in reversed(own)] for sweep, own in by_sweep.items()))
    return islice((pair for turn in turns for pair in turn if pair is not None), MOST_RESULTS)


def _sources(knobs: tuple[Knob, ...], results: Sequence[PastResult]) -> dict[str, str]:
    """Return for each knob that has one the knob of a sweep that means the same, by name."""
    seen: dict[str, set[Label]] = {}
    for result in results:
        for name, value in result.knobs.items():
            seen.setdefault(name, set()).add(value)
    found = {knob.name: _source(knob, knobs, seen) for knob in knobs}
    return {name: source for name, source in found.items() if source is not None}


def _source(knob: Knob, knobs: tuple[Knob, ...], seen: Mapping[str, set[Label]]) -> str | None:
    if _CHOICE_OF_STAGE.fullmatch(knob.name):
        labels = {*_labels(knob.hole)} - {None}
        return next((name for name in seen if _CHOICE_OF_STAGE.fullmatch(name) and seen[name] & labels), None)
    meaning = _meaning(knob.name)
    same = [name for name in seen if _meaning(name) == meaning]
    if same:
        return knob.name if knob.name in same else same[0]
    setting = _setting(knob.name)
    theirs = [name for name in seen if _setting(name) == setting or _meaning(name) == setting]
    ours = [other.name for other in knobs if _setting(other.name) == setting or _meaning(other.name) == setting]
    if not theirs:
        return None
    place = ours.index(knob.name) / max(1, len(ours) - 1)
    return theirs[round(place * (len(theirs) - 1))]


def _meaning(name: str) -> str:
    """Return a knob's name without the place of its stage: ``distill@step4.weight`` is ``distill.weight``."""
    return _STEP.sub("", name)


def _setting(name: str) -> str:
    """Return the setting of a knob for a pattern of layers, ``quantize.bits`` of ``quantize@step2.bits.conv*``.

    A knob that is no such setting has its own name.
    """
    parts = _meaning(name).split(".")
    return ".".join(parts[:-1]) if len(parts) > 2 else _meaning(name)


def _labels(hole: Hole) -> tuple[Label, ...]:
    return hole.labels if isinstance(hole, Choice) else ()


def _code(hole: Hole, value: Label) -> float:
    """Return the code of another space's value, see `Coordinates`; NaN for what this space does not know."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(hole, Choice):
        numbers = [label for label in hole.labels if isinstance(label, int | float) and not isinstance(label, bool)]
        if numeric and len(numbers) == len(hole.labels) and numbers == sorted(numbers):
            return float(np.interp(cast(float, value), numbers, range(len(numbers))))
        return float(hole.labels.index(value)) if value in hole.labels else math.nan
    if not numeric or hole.low == hole.high:
        return math.nan if not numeric else 0.0
    ends = (hole.low, hole.high, min(max(cast(float, value), hole.low), hole.high))
    low, high, at = (math.log(end) if hole.log else float(end) for end in ends)
    return (at - low) / (high - low)


def _on_scale(scale: LossScale, loss: float) -> float:
    return math.log(max(loss, _SMALLEST_ERROR)) if scale.scale == "log" else loss
