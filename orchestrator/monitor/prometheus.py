"""The sweep's numbers as Ray metrics, which Ray exports to Prometheus."""

import time
from typing import Final

from ray.util.metrics import Gauge

from paretta.dashboards.journal.gauges import GAUGES, samples
from paretta.dashboards.journal.record import SweepRecord

PERIOD_S: Final = 2.0  # Ray itself exports every few seconds
_LABELS: Final = {"paretta_trials": ("status",), "paretta_best": ("meter",), "paretta_lane_time_share": ("lane", "of")}


class SweepMetrics:
    """Sets a gauge for each number of a sweep; needs a Ray session."""

    def __init__(self) -> None:
        """Make the gauges."""
        self._gauges = {
            name: Gauge(name, words, tag_keys=("sweep", *_LABELS.get(name, ()))) for name, words in GAUGES.items()
        }
        self._told = 0.0

    def tell(self, record: SweepRecord, *, at_once: bool = False) -> None:
        """Set the gauges from `record`; at most every two seconds, unless `at_once`."""
        if not at_once and time.monotonic() - self._told < PERIOD_S:
            return
        self._told = time.monotonic()
        for sample in samples(record):
            self._gauges[sample.name].set(sample.value, tags=_in_ascii({"sweep": record.name, **dict(sample.labels)}))


def _in_ascii(labels: dict[str, str]) -> dict[str, str]:
    r"""Return labels in ASCII, as Ray requires; other characters are escaped, so that names stay distinct.

    >>> _in_ascii({"sweep": "größe"})
    {'sweep': 'gr\\xf6\\xdfe'}
    """
    return {name: value.encode("ascii", "backslashreplace").decode() for name, value in labels.items()}
