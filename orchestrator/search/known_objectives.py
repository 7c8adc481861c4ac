"""Objectives known before training: computed exactly for proposed plans, estimated for all others."""

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

_MIN_POINTS = 3  # exact values needed before estimates use a model


class Knows(Protocol):
    """Provides objectives known before training, as losses [known]."""

    @property
    def scales(self) -> tuple[LossScale, ...]:
        """The loss scale of each known objective."""

    def estimate(self, configs: Sequence[Configuration]) -> Array:
        """Return the estimated losses [n, known] of configurations."""

    def look(self, config: Configuration) -> Array | None:
        """Return the losses [known] of one configuration, None where it cannot be carried out."""

    def learn(self, plan: Plan, config: Configuration, readings: Mapping[str, float]) -> Array:
        """Enter what was measured of a finished trial, by meter, and return its losses [known]."""

    def keeps(self, config: Configuration) -> bool:
        """Return True if a configuration can be carried out and keeps the known limits."""


class KnownObjectives:
    """The objectives that depend on a plan's structure only, as losses [known].

    A look-up exports and measures the untrained structure, which takes seconds. Therefore decisions among hundreds of
    candidates use estimates, and only proposed plans are looked up. Every look-up and every finished trial improves the
    estimates. Look-ups are cached by plan; the readings of a finished trial replace them.

    Args:
        space: the space of plans.
        scales: of the known objectives, in the order of the losses.
        look: returns readings by meter, or None if the plan cannot be carried out. It is left out when pickled.
        knobs: the knobs that change the structure; the estimates ignore the others.
    """

    def __init__(self, space: Space, scales: Sequence[LossScale], look: PlanLook | None, knobs: Sequence[Knob]) -> None:
        self.scales, self.look_at = tuple(scales), look
        self._space, self._coordinates = space, Coordinates(tuple(knobs))
        self._seen: dict[str, Array | None] = {}
        self._inputs: dict[str, Array] = {}
        self._model: Surrogate | None = None

    def __getstate__(self) -> dict[str, object]:
        """Leave out `look`, which needs a running cluster."""
        return {**self.__dict__, "look_at": None}

    @property
    def num_looks(self) -> int:
        """The number of plans known exactly."""
        return len(self._seen)

    def estimate(self, configs: Sequence[Configuration]) -> Array:
        """Return the estimated losses [n, known]; those of the baseline while nothing else is known.

        While few plans are known exactly, and if no knob changes the structure, every estimate is their mean.
        """
        rows = self._rows()
        if len(rows.u) < _MIN_POINTS or not self._coordinates.knobs:
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
        """Look up a configuration; return True if it can be carried out and keeps the known limits."""
        losses = self.look(config)
        return losses is not None and all(
            loss <= scale.as_known().limit for loss, scale in zip(losses.tolist(), self.scales, strict=True)
        )

    def _enter(self, plan: Plan, config: Configuration, losses: Array | None) -> None:
        self._seen[plan.fingerprint] = losses
        if losses is not None:
            self._inputs[plan.fingerprint] = self._encode(config)

    def _losses(self, config: Configuration, readings: Mapping[str, Reading]) -> Array:
        """Convert readings to losses; missing ones, such as the training cost, are estimated."""
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
