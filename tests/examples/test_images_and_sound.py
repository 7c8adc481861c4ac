"""The examples of images, detection and speech are sound on their real data, which npm and pip fetch."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.training.evaluate import scores

Example = Callable[[str], ModuleType]
Fetched = Callable[[str], Path]


def test_emoji_are_a_folder_of_images(example: Example, fetched: Fetched) -> None:
    task = example("emoji").make(folder=str(fetched("emoji")), width=8)
    check_task(task)
    assert sum(len(task.split(name)) for name in ("train", "validation", "test")) == 1049  # type: ignore[arg-type]
    assert task.batch(task.train, torch.arange(2))[0].shape == (2, 3, 32, 32)


def test_a_detector_that_knows_the_boxes_has_full_precision(example: Example, fetched: Fetched) -> None:
    detection = example("detection")
    task = detection.make(folder=str(fetched("emoji")), train=32, validation=24, width=4)
    check_task(task)
    _, batch = task.batch(task.validation, torch.arange(24))
    assert bool((batch["labels"] != detection.BACKGROUND).any(1).all())  # each picture has an emoji
    sure = 9.0 * torch.nn.functional.one_hot(batch["labels"], detection.BACKGROUND + 1)
    known = {"logits": sure, "corners": batch["corners"]}
    for metric in task.metrics.values():
        metric.score.reset()
        metric.score.update(*metric.arguments(known, batch))
        assert metric.score.compute() == 1.0
    assert 0 <= scores(task.new_model(), task, Ranks.alone())["mean_ap"] < 0.2


def test_vowels_are_sequences_with_lengths(example: Example, fetched: Fetched) -> None:
    task = example("vowels").make(folder=str(fetched("vowels")))
    check_task(task)
    assert [len(task.split(name)) for name in ("train", "validation", "test")] == [162, 108, 370]  # type: ignore[arg-type]
    lengths = [len(task.test[place][0]) for place in range(370)]
    assert (min(lengths), max(lengths)) == (7, 29)
