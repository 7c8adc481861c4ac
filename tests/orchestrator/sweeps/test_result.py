"""The message of a stopped sweep has the complete command that resumes it."""

from pathlib import Path

import pytest

from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.sweeps.result import how_to_resume


@pytest.mark.parametrize(("own", "ends"), [(True, "--home {home}"), (False, "--home {home} --address ADDRESS")])
def test_a_sweep_on_a_running_cluster_is_resumed_there(tmp_path: Path, own: bool, ends: str) -> None:
    record = SweepRecord(config={"search": {"trials": 4}}, facts={"own_cluster": own}, started=1.0)
    told = how_to_resume(tmp_path / "mine", record)
    assert "mine is stopped: 0 of 4 trials have ended" in told
    assert told.endswith("launch --resume mine " + ends.format(home=tmp_path))
