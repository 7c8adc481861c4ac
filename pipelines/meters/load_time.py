"""CPU seconds from the model file to the first answer, each time in a fresh process."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.measuring.served_meter import FreshStartMeter
from paretta.search_spaces.objectives.reading import Detail


class LoadTime(FreshStartMeter):
    """From opening the session to its first answer; the interpreter's start and imports are reported separately.

    It is CPU time of the process, so that other work on the machine does not count. The details hold the wall time,
    which includes the disk's if the file was not cached.
    """

    value_of: ClassVar[str] = "seconds"
    counted_by: ClassVar[str] = "process CPU"

    kind: Literal["load_time"] = "load_time"
    unit: Literal["s"] = "s"
    goal: Literal["min"] = "min"

    def beside(self, told: Mapping[str, NDArray[np.float64]]) -> dict[str, Detail]:
        """Return the wall time, and the time of the interpreter's start and imports."""
        return {
            "wall_seconds": float(np.median(told["wall_seconds"])),
            "interpreter_and_imports_seconds": float(np.median(told["imports_seconds"])),
        }
