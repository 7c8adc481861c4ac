"""Scores during training equal the metric's own, on one rank or many, and do not affect the training."""

from dataclasses import replace

import pytest

from paretta.pipelines.bench import Bench, TrainingProgress, seeded
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.tasks.digits import make
from paretta.pipelines.training.evaluate import scores
from paretta.pipelines.training.settings import TrainSettings
from paretta.pipelines.training.train import fit


def test_scores_are_the_metrics_means_and_leave_the_mode() -> None:
    task = make(width=4, hidden=8)
    with seeded(0):
        model = task.new_model().train()
    found = scores(model, task, Ranks.alone())
    assert model.training
    model.eval()
    images, labels = task.validation.tensors
    right = model(images).argmax(1) == labels
    assert found == {"accuracy": pytest.approx(float(right.double().mean()))}


def test_a_scored_training_tells_after_each_epoch_and_learns_the_same() -> None:
    task, told = make(width=4, hidden=8), list[TrainingProgress]()

    def trained(*, scored: bool) -> bytes:
        with seeded(0):
            model = task.new_model()
        bench = replace(Bench(task, Ranks.alone(), report=told.append), scored=scored)
        fit(model, bench, TrainSettings(epochs=2, batch_size=256))
        return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())

    assert trained(scored=True) == trained(scored=False)
    assert [sorted(progress.scores) for progress in told] == [["accuracy"], ["accuracy"], [], []]
