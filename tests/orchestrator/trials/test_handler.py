"""The sweep's own job handler on a real lane of two workers, whose loaders serve all epochs and trials."""

import shutil
from pathlib import Path
from typing import cast

import pytest
import random_views

from paretta.orchestrator.cluster.connect import connect
from paretta.orchestrator.config.task_reference import TaskReference
from paretta.orchestrator.lanes.pool import Job, LanePool
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.sweeps.sweep_run import HANDLER
from paretta.orchestrator.trials.request import TrialRequest
from paretta.pipelines.bench import TrainingProgress
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.search_spaces.space.plan import Plan

EPOCHS = 3


@pytest.mark.slow
def test_loaders_of_a_lane_serve_all_its_trials_and_change_nothing(tmp_path: Path) -> None:
    shutil.copy(random_views.__file__, tmp_path / "views.py")
    made = tmp_path / "made"
    task = TaskReference.of("./views.py:make_with_trace", {"made": str(made)}, tmp_path)
    files = SweepFiles(tmp_path / "sweep")
    plan = Plan(stages=({"kind": "train", "epochs": EPOCHS, "batch_size": 8, "optimizer": "sgd", "lr": 0.1},))

    def told(lanes: LanePool, uid: str, *, seed: int, loaders: int) -> tuple[list[float], list[int]]:
        """Train on the lane; return the loss of each epoch and how many loaders each worker had."""
        folder, cache = f"artifacts/{uid}", f"cache-{uid}"
        request = TrialRequest(task, plan.to_document(), seed, files, folder, cache, loaders=loaders)
        lanes.submit(Job(uid, {"request": request}))
        seen: list[dict[str, object]] = []
        while (update := lanes.client.wait(uid, seen=len(seen), timeout_s=60.0)).outcome is None:
            seen += cast(list[dict[str, object]], update.progress)
        seen += cast(list[dict[str, object]], update.progress)
        assert update.outcome.status == "done", update.outcome
        return [cast(float, one["loss"]) for one in seen], [cast(int, one["loaders"]) for one in seen]

    def pids() -> set[str]:
        return set(made.read_text(encoding="utf-8").split())

    with connect(num_cpus=2), LanePool(HANDLER, storage=tmp_path / "ray", start_timeout_s=120.0) as lanes:
        first, running = told(lanes, "first", seed=1, loaders=2)
        assert running == [2] * EPOCHS
        serving = pids()
        assert len(serving) == len(made.read_text(encoding="utf-8").split()) == 6, "two workers with two loaders each"
        other, running = told(lanes, "second", seed=2, loaders=2)
        assert running == [2] * EPOCHS
        assert other != first
        assert pids() == serving, "the second trial started none"
        again, running = told(lanes, "third", seed=1, loaders=0)
        assert running == [0] * EPOCHS

    alone: list[float] = []

    def report(progress: TrainingProgress) -> None:
        alone.append(progress.loss)

    run(plan, task.load(), seed=1, ranks=Ranks.alone(), folder=tmp_path / "alone", report=report)
    assert again == first
    assert first == pytest.approx(alone, abs=2e-6)
