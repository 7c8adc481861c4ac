"""Sweeps in separate processes that a test can watch, interrupt and kill."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ray_nodes import ancestors, commands

from paretta.dashboards.journal.journal import events
from paretta.dashboards.journal.record import SweepRecord

ROOT = Path(__file__).parents[2]
PATIENCE_S = 600  # a busy machine needs minutes for what takes seconds on an idle one
SMALL_SWEEP = """
task: {use: "./mytask.py:make"}
baseline: [{kind: train, epochs: 3, lr: 0.01, batch_size: 32}]
space:
  - {kind: prune, sparsity: {float: [0.0, 0.8]}}
  - {kind: train, epochs: 20, lr: 0.005, batch_size: 32}
objectives: [size, accuracy]
search: {sampler: random, trials: 5, seed: 3}
workers: {lanes: 1}
"""


def user_folder(folder: Path, sweep: str) -> Path:
    """Put a task and `sweep` as sweep.yaml into `folder`, as a user has them."""
    shutil.copy(ROOT / "examples" / "own_model" / "mytask.py", folder)
    (folder / "sweep.yaml").write_text(sweep)
    return folder


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a launch in a process group of its own, as a terminal does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HOME": str(folder)}
    command = [sys.executable, "-m", "paretta", "launch", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload, no-any-return]


def until(ready: Callable[[SweepRecord], bool], sweep: Path, process: subprocess.Popen[str]) -> SweepRecord:
    """Wait until `ready` holds for the sweep in the folder `sweep`; its driver must not end before that."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (sweep / "journal.jsonl").exists():
            record = SweepRecord.read(sweep)
            if ready(record):
                return record
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate()[0])


def below(driver: int, title: str) -> list[int]:
    """Return the processes of the driver's own cluster whose title holds `title`, such as ``ray::RayTrainWorker``."""
    return [pid for pid, line in commands() if title in line and driver in ancestors(pid)]


def another_trains(count: int) -> Callable[[SweepRecord], bool]:
    """Ask for a moment when `count` trials have ended and one trains."""
    return lambda record: record.count("complete", "failed") >= count and bool(record.progress)


def endings(sweep: Path) -> Counter[str]:
    """Count by uid how often each trial ended before the front was read."""
    found = Counter[str]()
    for event, _ in events(sweep):
        match event:
            case {"event": "front"}:
                break
            case {"event": "trial", "trial": {"status": "complete" | "failed", "uid": uid}}:
                found[str(uid)] += 1
    return found
