"""Seconds of CPU or GPU that making the candidate took, as the run that made it counted them."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from paretta.pipelines.meter import Meter, MeterBench
from paretta.search_spaces.objectives.reading import Reading


class TrainCost(Meter):
    """A fact of the run, not of the file: who runs the candidate hands it to the meters as ``train_<resource>_s``.

    It is what was spent: stages that came from the cache cost nothing, and a baseline that was fetched cost its fetch.
    """

    kind: Literal["train_cost"] = "train_cost"
    unit: Literal["s"] = "s"
    goal: Literal["min"] = "min"
    resource: Literal["cpu", "gpu"] = Field("cpu", description="whose seconds, summed over workers: cpu or gpu")

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the seconds, with the wall time beside them."""
        fact = f"train_{self.resource}_s"
        if fact not in bench.facts:
            known = ", ".join(sorted(bench.facts)) or "none"
            return Reading.not_measured(self.unit, f"the run told no {fact}; facts known: {known}")
        wall = bench.facts.get("train_wall_s")
        details = {"resource": self.resource} | ({} if wall is None else {"wall_seconds": wall})
        return Reading(bench.facts[fact], self.unit, details=details)
