"""CPU seconds from the model file to the first answer, each time in a fresh process."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.measuring.served_meter import FreshStartMeter
from paretta.search_spaces.objectives.reading import Detail


class LoadTime(FreshStartMeter):
    """From the opening of the session to the end of its first answer; interpreter and imports are told apart.

    CPU time of the process, so that other work on the machine does not count; the wall time is in the details, and so
    is that of a cold disk, if it was cold.
    """

    value_of: ClassVar[str] = "seconds"
    counted_by: ClassVar[str] = "process CPU"

    kind: Literal["load_time"] = "load_time"
    unit: Literal["s"] = "s"
    goal: Literal["min"] = "min"

    def beside(self, told: Mapping[str, NDArray[np.float64]]) -> dict[str, Detail]:
        """Return the wall time, and what interpreter and imports took."""
        return {
            "wall_seconds": float(np.median(told["wall_seconds"])),
            "interpreter_and_imports_seconds": float(np.median(told["imports_seconds"])),
        }
