"""A training split that only Ray Data holds, read in shares by the workers of one lane."""

from pathlib import Path
from typing import cast

import pytest
from torch.utils.data import TensorDataset

from paretta.orchestrator.cluster.connect import connect
from paretta.orchestrator.config.task_reference import TaskReference
from paretta.orchestrator.lanes.pool import Job, LanePool
from paretta.orchestrator.lanes.stream_shards import source_of
from paretta.orchestrator.storage.sweep_files import SweepFiles
from paretta.orchestrator.trials.request import TrialProduct, TrialRequest
from paretta.pipelines.artifact import open_artifact
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan

TASK = """
import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from paretta.pipelines.stream import Stream
from paretta.pipelines.task import Metric, Task


def pairs(count, seed):
    inputs = np.random.default_rng(seed).standard_normal((count, 4)).astype("float32")
    return inputs, (inputs[:, 0] > 0).astype("int64")


def dataset():
    import ray

    inputs, targets = pairs(1000, 0)
    rows = [{"inputs": x, "targets": int(y)} for x, y in zip(inputs, targets)]
    return ray.data.from_items(rows, override_num_blocks=7)


def make():
    inputs, targets = map(torch.tensor, pairs(64, 1))
    return Task(
        model=lambda: nn.Linear(4, 2),
        train=TensorDataset(inputs, torch.zeros_like(targets)),  # from this sample alone only zeros would be learnt
        validation=TensorDataset(inputs, targets),
        test=TensorDataset(inputs, targets),
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": Metric(lambda outputs, targets: (outputs.argmax(1) == targets).float())},
        example_input=inputs[:1],
        stream=Stream(dataset, num_samples=1000, shuffle=64),
    )
"""


@pytest.mark.slow
def test_two_workers_learn_from_what_they_read_in_shares(tmp_path: Path) -> None:
    (tmp_path / "streamed.py").write_text(TASK)
    task = TaskReference.of("./streamed.py:make", {}, tmp_path)
    plan = Plan(baseline=({"kind": "train", "epochs": 6, "batch_size": 20, "lr": 0.03},))
    request = TrialRequest(task, plan.to_document(), 0, SweepFiles(tmp_path), "artifact", "cache")
    source = source_of(task)
    with connect(num_cpus=3):
        with pytest.raises(WrongInput, match=r"needs 4 CPU: 1 lane.*, each with 1 CPU to read data"):
            LanePool(
                "paretta.orchestrator.trials.handler:handle", storage=tmp_path, workers_per_lane=3, dataset=source
            ).__enter__()
        with LanePool("paretta.orchestrator.trials.handler:handle", storage=tmp_path / "ray", dataset=source) as lanes:
            lanes.submit(Job("streamed", {"request": request}))
            delivered = cast(TrialProduct, lanes.result("streamed", timeout_s=200.0))
    assert delivered.num_parameters == 10
    inputs, targets = cast(TensorDataset, task.load().validation).tensors
    session = open_artifact(tmp_path / "artifact").session()
    answers = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})[0]
    assert (answers.argmax(1) == targets.numpy()).mean() > 0.95
