"""What meters of generating text share: they call a decoder with a cache for a prompt, or for one more token."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from paretta.pipelines.data.decoder_feeds import generates
from paretta.pipelines.data.feeds import Feeds, feed_batch
from paretta.pipelines.measuring.intervals import bootstrap_interval
from paretta.pipelines.measuring.served_meter import ServedMeter
from paretta.pipelines.meter import MeterBench
from paretta.search_spaces.objectives.reading import Reading

if TYPE_CHECKING:  # the measuring process must not import torch
    from paretta.pipelines.task import Task

_NO_CACHE: Final = "the model takes no cache of keys and values; causal_lm(..., cache=True) delivers one that does"
_POSITIONS: Final = ("max_position_embeddings", "n_positions")


class DecoderMeter(ServedMeter, ABC):
    """Times one call of a decoder with a cache, in fresh sessions, on the clock of the other times."""

    changed_by: ClassVar[frozenset[str] | None] = frozenset({"chosen by value"})
    is_timed: ClassVar[bool] = True

    budget_seconds: float = Field(
        default=10.0, gt=0, description="the longest wall time of one reading in s, such as 10"
    )

    @property
    @abstractmethod
    def num_positions(self) -> int:
        """How many positions of the model a call reaches."""

    @abstractmethod
    def call_of(self, feeds: Feeds) -> Feeds:
        """Return the feeds of the call, made of those of some samples."""

    @abstractmethod
    def value_of(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the reading's values from the seconds of a call."""

    def batch(self, bench: MeterBench) -> Feeds:
        """Return the feeds of the call."""
        return self.call_of(feed_batch(bench.inputs, self.batch_size))

    def unfit(self, task: "Task") -> str | None:
        """Tell a task whose models take no cache, or have fewer positions than the call reaches."""
        from paretta.pipelines.data.trees import as_inputs  # noqa: PLC0415 - loads torch

        if "past_key_values" not in as_inputs(task.example_input).kwargs:
            return _NO_CACHE
        known = _positions(task.files)
        if known is not None and self.num_positions > known:
            return f"it reaches {self.num_positions} positions, and the model has {known}; ask for fewer"
        return None

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the median over rounds of fresh sessions with its interval."""
        if not generates(bench.inputs):
            return Reading.not_measured(self.unit, _NO_CACHE)
        if missing := self.unavailable(artifact, bench):
            return missing
        seconds = self.call_seconds(artifact, bench, budget_seconds=self.budget_seconds)
        values = self.value_of(seconds)  # [rounds, (CPU, wall)]
        low, high = bootstrap_interval(values[:, 0])
        computing, wall = (float(value) for value in np.median(values, axis=0))
        contention = float(np.median(seconds[:, 1]) / np.median(seconds[:, 0]))
        details = {"wall": wall, "contention": contention, "positions": self.num_positions, **self.facts()}
        return Reading(computing, self.unit, low=low, high=high, num_samples=len(values), details=details)


def _positions(files: Mapping[str, bytes]) -> int | None:
    """Return how many positions the model knows, as the config delivered with it says; None if it does not."""
    try:
        config = json.loads(files.get("config.json", b"{}"))
    except ValueError:
        return None
    named = config if isinstance(config, Mapping) else {}
    return next((named[name] for name in _POSITIONS if isinstance(named.get(name), int)), None)
