"""A real lane may take longer to start than a running lane may be silent."""

from pathlib import Path

import pytest

from paretta.orchestrator.cluster.connect import connect
from paretta.orchestrator.lanes.messages import Timeouts
from paretta.orchestrator.lanes.pool import Job, LanePool


@pytest.mark.slow
def test_a_lane_whose_imports_are_slow_loses_no_job(tmp_path: Path) -> None:
    """To import Ray Train and torch and to begin a worker takes more than two seconds on any machine."""

    def handle(payload, rank):  # type: ignore[no-untyped-def]
        return payload["number"] + 1

    timeouts = Timeouts(silence_s=2.0, slow_s=300.0)
    with connect(num_cpus=1), LanePool(handle, storage=tmp_path, workers_per_lane=1, timeouts=timeouts) as lanes:
        lanes.submit(Job("a", {"number": 1}))
        assert lanes.result("a", timeout_s=200.0) == 2
