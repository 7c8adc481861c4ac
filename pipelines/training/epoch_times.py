"""What the time of an epoch was spent on."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from paretta.pipelines.training.batch import Batch


@dataclass(slots=True)
class EpochTimes:
    """Seconds of one epoch, by what they were spent on, and what its steps told."""

    begun: float = field(default_factory=time.perf_counter)
    loading: float = 0.0
    communication: float = 0.0
    measuring: float = 0.0
    num_samples: int = 0
    norms: list[float] = field(default_factory=list)

    def shares(self) -> dict[str, float]:
        """Return each part of the time since `begun`; computing is the rest."""
        whole = max(time.perf_counter() - self.begun, 1e-9)
        waits = {"loading": self.loading, "communication": self.communication, "measuring": self.measuring}
        found = {name: seconds / whole for name, seconds in waits.items()}
        return {**found, "computing": max(1 - sum(found.values()), 0.0)}

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, and count the seconds of waiting for them."""
        while True:
            begun = time.perf_counter()
            batch = next(batches, None)
            self.loading += time.perf_counter() - begun
            if batch is None:
                return
            yield batch
