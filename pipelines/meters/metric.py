"""One of the task's metrics, computed from the artifact's outputs."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from paretta.pipelines.measuring.intervals import mean_interval
from paretta.pipelines.meter import Meter, MeterBench
from paretta.search_spaces.objectives.objective import Goal
from paretta.search_spaces.objectives.reading import Reading

if TYPE_CHECKING:
    from paretta.pipelines.losses.metric_scores import SplitScore


class Metric(Meter):
    """The metric called `name`, with the unit and goal that the task states."""

    judges_answers: ClassVar[bool] = True
    is_verified: ClassVar[bool] = True

    kind: Literal["metric"] = "metric"
    name: str
    unit: str = "share"
    goal: Goal = "max"

    @property
    def label(self) -> str:
        """The metric's name."""
        return self.name

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the score with its 95 % interval: of the mean over samples, or of a bootstrap over samples."""
        scored = bench.scored.get(self.name)
        if scored is None:
            return Reading.not_measured(self.unit, "the artifact was not run on the split")
        if isinstance(scored, str):
            return Reading.not_measured(self.unit, f"{self.name}: {scored}")
        each = np.array([scored.value]) if scored.each is None else scored.each
        if not np.isfinite(each).all():
            which = f"on {int((~np.isfinite(each)).sum())} samples" if scored.each is not None else ""
            return Reading.not_measured(self.unit, f"{self.name} is not finite {which}".rstrip())
        low, high = _interval(scored) or (None, None)
        return Reading(scored.value, self.unit, low=low, high=high, num_samples=scored.num_samples)


def _interval(scored: "SplitScore") -> tuple[float, float] | None:
    if scored.each is not None:
        return mean_interval(scored.each)
    if len(scored.resampled) == 0 or not np.isfinite(scored.resampled).all():
        return None
    low, high = np.quantile(scored.resampled, [0.025, 0.975])
    return min(float(low), scored.value), max(float(high), scored.value)
