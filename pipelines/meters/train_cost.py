"""CPU or GPU seconds for making the candidate, as counted by its run."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from paretta.pipelines.meter import Meter, MeterBench
from paretta.search_spaces.objectives.reading import Reading


class TrainCost(Meter):
    """A fact of the run, not of the file; the run passes it to the meters as ``train_<resource>_s``.

    It is the compute spent: stages that came from the cache cost nothing, and a fetched baseline costs its fetch.
    """

    kind: Literal["train_cost"] = "train_cost"
    unit: Literal["s"] = "s"
    goal: Literal["min"] = "min"
    resource: Literal["cpu", "gpu"] = Field(default="cpu", description="whose seconds, summed over workers: cpu or gpu")

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the seconds, with the wall time beside them."""
        fact = f"train_{self.resource}_s"
        if fact not in bench.facts:
            known = ", ".join(sorted(bench.facts)) or "none"
            return Reading.not_measured(self.unit, f"the run reported no {fact}; facts known: {known}")
        wall = bench.facts.get("train_wall_s")
        details = {"resource": self.resource} | ({} if wall is None else {"wall_seconds": wall})
        return Reading(bench.facts[fact], self.unit, details=details)
