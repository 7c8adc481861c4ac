"""One of the task's metrics, read from the artifact's own answers."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from paretta.pipelines.measuring.intervals import mean_interval
from paretta.pipelines.meter import Meter, MeterBench
from paretta.search_spaces.errors import WrongInput, first_line
from paretta.search_spaces.objectives.objective import Goal
from paretta.search_spaces.objectives.reading import Reading


class Metric(Meter):
    """The metric called `name`. Unit and goal are those of the task."""

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
        """Return the mean score with its 95 % interval; a metric of one number has none."""
        if bench.outputs is None or bench.targets is None:
            return Reading.not_measured(self.unit, "the artifact was not run on the split")
        outputs, targets = torch.from_numpy(bench.outputs), torch.from_numpy(bench.targets)
        try:
            scores = bench.metrics[self.name].scores(outputs, targets).numpy()
        except WrongInput as error:
            return Reading.not_measured(self.unit, f"{self.name}: {first_line(error)}")
        if not np.isfinite(scores).all():
            return Reading.not_measured(
                self.unit, f"{self.name} is not finite on {int((~np.isfinite(scores)).sum())} samples"
            )
        if scores.ndim == 0:
            return Reading(float(scores), self.unit, num_samples=len(targets))
        low, high = mean_interval(scores) or (None, None)
        return Reading(float(scores.mean()), self.unit, low=low, high=high, num_samples=len(scores))
