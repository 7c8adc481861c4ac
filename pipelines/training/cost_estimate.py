"""Estimate the cost of training by timing a few batches of the untrained model on this machine."""

import time
from collections.abc import Sequence

import torch

from paretta.pipelines.bench import seeded
from paretta.pipelines.data.samples import num_samples
from paretta.pipelines.data.trees import call_model
from paretta.pipelines.stage import Stage
from paretta.pipelines.task import Task
from paretta.pipelines.training.settings import TrainSettings

_BATCHES = 3  # number of timed batches; the fastest counts, the first one warms up


def training_seconds(stages: Sequence[Stage], task: Task) -> float:
    """Return the seconds that the stages' epochs take on one core with one worker, without compression.

    Compression makes batches cheaper and distillation makes them more expensive, so this is an order of magnitude.
    Training by other means than `paretta.pipelines.training.train` is not counted.
    """
    trained = [stage for stage in stages if isinstance(stage, TrainSettings)]
    seconds = {size: _epoch_seconds(size, task) for size in {stage.batch_size for stage in trained}}
    return sum(seconds[stage.batch_size] * stage.epochs for stage in trained)


def _epoch_seconds(batch_size: int, task: Task) -> float:
    size = min(batch_size, num_samples(task.train))
    inputs, targets = task.batch(task.train, torch.arange(size), training=True)
    with seeded(0):
        model = task.new_model().train()
    seconds = []
    for _ in range(_BATCHES):
        begun = time.process_time()  # of all threads: what one core would take, whatever else runs here
        task.loss(call_model(model, inputs), targets).backward()  # type: ignore[no-untyped-call]
        seconds.append(time.process_time() - begun)
    return min(seconds) * (task.num_train // size)
