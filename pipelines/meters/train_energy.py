"""Energy in joules for making the candidate, from a hardware counter if there is one, else from CPU seconds."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from paretta.pipelines.meter import Meter, MeterBench
from paretta.search_spaces.objectives.reading import Reading


class TrainEnergy(Meter):
    """A fact of the run, labelled by its ``source``: ``nvml``, ``rapl`` or ``cpu_seconds x W``.

    Counters measure the whole device or processor package of the first worker, including other work. CPU seconds times
    `watts_per_core` is only an estimate, which ranks candidates like their CPU time. Stages that came from the cache
    cost nothing.
    """

    kind: Literal["train_energy"] = "train_energy"
    unit: Literal["J"] = "J"
    goal: Literal["min"] = "min"
    watts_per_core: float | None = Field(
        default=None, gt=0, description="the power of one busy core in W, for machines without counters, such as 6"
    )

    def read(self, artifact: Path, bench: MeterBench) -> Reading:
        """Return the joules and their source."""
        for source in ("nvml", "rapl"):
            if (fact := f"train_{source}_j") in bench.facts:
                return Reading(bench.facts[fact], self.unit, details={"source": source})
        if self.watts_per_core is None:
            return Reading.not_measured(self.unit, "the run could read no counter; set watts_per_core to estimate")
        if "train_cpu_s" not in bench.facts:
            return Reading.not_measured(self.unit, "the run reported no train_cpu_s")
        details: dict[str, float | str] = {"source": "cpu_seconds x W", "watts_per_core": self.watts_per_core}
        return Reading(bench.facts["train_cpu_s"] * self.watts_per_core, self.unit, details=details)
