"""A training takes all memory: Ray's monitor kills it, and others with it; the trial fails, and the sweep goes on."""

from pathlib import Path

import pytest
from disturbed import PATIENCE_S, SMALL_SWEEP, another_trains, endings, started, until, user_folder
from ray._private.utils import get_system_memory, get_used_memory

from paretta.dashboards.journal.record import SweepRecord

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

ROOM = 5 * 2**30  # that the sweep has before Ray thinks that memory is short
SWEEP = SMALL_SWEEP.replace("lanes: 1", "lanes: 1, attempts: 2")
GREEDY = """
from pathlib import Path

HELD = []


def greedy(outputs, targets):
    if Path(__file__).with_name("greedy").exists():
        HELD.append(torch.ones(2**26))  # 256 MB
    return nn.functional.cross_entropy(outputs, targets)
"""


def test_a_training_that_takes_all_memory_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total, used = get_system_memory(), get_used_memory()
    if used + 2 * ROOM > total:
        pytest.skip("this machine has no memory to spare")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(used + ROOM) / total:.3f}")
    folder = user_folder(tmp_path, SWEEP)
    task = (folder / "mytask.py").read_text()
    (folder / "mytask.py").write_text(task.replace("loss=nn.functional.cross_entropy", "loss=greedy") + GREEDY)
    driver, sweep = started(folder, "sweep.yaml"), folder / "sweeps" / "sweep"
    until(another_trains(1), sweep, driver)
    (folder / "greedy").touch()
    until(lambda record: record.count("failed") > 0, sweep, driver)
    (folder / "greedy").unlink()
    printed, _ = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 1, printed  # a trial failed
    assert "Traceback" not in printed
    record = SweepRecord.read(sweep)
    assert record.status == "done"
    failed = [trial for trial in record.trials.values() if trial.status == "failed"]
    assert all(str(trial.reason).startswith("out of memory: ") for trial in failed), [t.reason for t in failed]
    assert record.count("complete") + len(failed) == 5
    assert record.count("complete") >= 3
    assert set(endings(sweep).values()) == {1}
