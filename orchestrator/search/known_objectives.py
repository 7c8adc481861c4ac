"""What is known of plans before training: looked at where it matters, estimated in between."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from paretta.orchestrator.policy.array import Array
from paretta.orchestrator.policy.encoding import Configuration, Coordinates
from paretta.orchestrator.policy.problem import Learned
from paretta.orchestrator.policy.surrogate import Surrogate, SurrogateRows
from paretta.orchestrator.search.losses import LossScale
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.space.space import Knob, Pinned, Space

PlanLook: TypeAlias = Callable[[Plan], Mapping[str, Reading] | None]

_MIN_POINTS = 3  # before estimates follow a model


class Knows(Protocol):
    """Knows objectives before training, as losses [known]."""

    @property
    def scales(self) -> tuple[LossScale, ...]:
        """What each known objective is compared to."""

    def estimate(self, configs: Sequence[Configuration]) -> Array:
        """Return the losses [n, known] by all that is known so far."""

    def look(self, config: Configuration) -> Array | None:
        """Return the losses [known] of one configuration, None where it cannot be carried out."""

    def learn(self, plan: Plan, config: Configuration, readings: Mapping[str, float]) -> Array:
        """Enter what was measured of a finished trial, by meter, and return its losses [known]."""

    def keeps(self, config: Configuration) -> bool:
        """Tell whether a configuration can be carried out within the known limits."""


class KnownObjectives:
    """The objectives that a plan's structure decides, as losses [known].

    A look exports the untrained structure and measures it, which takes seconds, so a decision among hundreds of
    candidates is made by estimates and only what it proposes is looked at. Every look and every finished trial makes
    the estimates better. Looks are kept by plan; what a finished trial measured replaces what was foreseen.

    Args:
        space: of the plans.
        scales: of the known objectives, in the order of the losses.
        look: returns readings by meter, None where the plan cannot be carried out. It is left out when pickled.
        knobs: those that change the structure; the others are ignored by the estimates.
    """

    def __init__(self, space: Space, scales: Sequence[LossScale], look: PlanLook | None, knobs: Sequence[Knob]) -> None:
        self.scales, self.look_at = tuple(scales), look
        self._space, self._coordinates = space, Coordinates(tuple(knobs))
        self._seen: dict[str, Array | None] = {}
        self._inputs: dict[str, Array] = {}
        self._model: Surrogate | None = None

    def __getstate__(self) -> dict[str, object]:
        """Leave out who looks: it belongs to a running cluster."""
        return {**self.__dict__, "look_at": None}

    @property
    def num_looks(self) -> int:
        """How many plans are known exactly."""
        return len(self._seen)

    def estimate(self, configs: Sequence[Configuration]) -> Array:
        """Return the losses [n, known] by all that is known so far; those of the baseline while that is nothing."""
        rows = self._rows()
        if len(rows.u) < _MIN_POINTS:
            typical = rows.losses.mean(axis=0) if len(rows.u) else np.zeros(len(self.scales))
            return np.tile(typical, (len(configs), 1))
        inputs = np.vstack([self._encode(config) for config in configs])
        mean: Array = self._fitted().posterior(rows, inputs[:0]).predict(inputs)[0]
        return mean

    def look(self, config: Configuration) -> Array | None:
        """Return the losses [known] of one configuration, None where it cannot be carried out."""
        plan = self._space.fill(Pinned(config))
        if plan.fingerprint not in self._seen:
            readings = self.look_at(plan) if self.look_at is not None else {}
            self._enter(plan, config, None if readings is None else self._losses(config, readings))
        return self._seen[plan.fingerprint]

    def learn(self, plan: Plan, config: Configuration, readings: Mapping[str, float]) -> Array:
        """Enter what was measured of a finished trial, by meter, and return its losses [known]."""
        losses = np.array([scale.known(readings[scale.objective.meter]) for scale in self.scales])
        self._enter(plan, config, losses)
        return losses

    def keeps(self, config: Configuration) -> bool:
        """Look at a configuration and tell whether it can be carried out within the known limits."""
        losses = self.look(config)
        return losses is not None and all(
            loss <= scale.as_known().limit for loss, scale in zip(losses.tolist(), self.scales, strict=True)
        )

    def _enter(self, plan: Plan, config: Configuration, losses: Array | None) -> None:
        self._seen[plan.fingerprint] = losses
        if losses is not None:
            self._inputs[plan.fingerprint] = self._encode(config)

    def _losses(self, config: Configuration, readings: Mapping[str, Reading]) -> Array:
        """Take what was read; what was not, such as the cost of a training, is estimated."""
        losses: Array = self.estimate([config])[0]
        for index, scale in enumerate(self.scales):
            reading = readings.get(scale.objective.meter)
            if reading is not None and reading.value is not None:
                losses[index] = scale.known(reading.value)
        return losses

    def _encode(self, config: Configuration) -> Array:
        own = {knob.name: config[knob.name] for knob in self._coordinates.knobs if knob.name in config}
        inputs: Array = self._coordinates.inputs(self._coordinates.encode(own)[None])
        first: Array = inputs[0]
        return first

    def _rows(self) -> SurrogateRows:
        keys = list(self._inputs)
        losses = np.array([self._seen[key] for key in keys]).reshape(len(keys), len(self.scales))
        return SurrogateRows(np.array([self._inputs[key] for key in keys]), np.zeros(len(keys)), losses)

    def _fitted(self) -> Surrogate:
        if self._model is None:
            learned = [Learned(scale.objective.meter, math.inf) for scale in self.scales]
            self._model = Surrogate(learned, most_rows=300, most_rows_fitted=120, growth=1.3, seed=0)
        return self._model
