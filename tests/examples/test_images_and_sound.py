"""The examples of images, detection and speech are sound on their real data, which npm and pip fetch."""

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.training.evaluate import scores
from paretta.search_spaces.yaml_io import parse_yaml

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("detection", "emoji", "vowels")


def module(path: Path) -> ModuleType:
    made = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert made is not None
    assert made.loader is not None
    loaded = importlib.util.module_from_spec(made)
    made.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder, done = tmp_path_factory.mktemp("data"), dict[str, Path]()

    def fetch(name: str) -> Path:
        if name not in done:
            try:
                done[name] = module(EXAMPLES / name / "fetch.py").fetch(folder / name)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"the data of examples/{name} cannot be fetched here: {type(error).__name__}")
        return done[name]

    return fetch


@pytest.mark.parametrize("name", NAMES)
def test_its_sweep_file_is_valid(name: str) -> None:
    path = EXAMPLES / name / "sweep.yaml"
    sweep = Sweep.parse(parse_yaml(path.read_text(encoding="utf-8"), str(path)), name, path.parent)
    assert len(sweep.space.knobs()) >= 3


def test_emoji_are_a_folder_of_images(fetched: Callable[[str], Path]) -> None:
    task = module(EXAMPLES / "emoji" / "task.py").make(folder=str(fetched("emoji")), width=8)
    check_task(task)
    assert sum(len(task.split(name)) for name in ("train", "validation", "test")) == 1049  # type: ignore[arg-type]
    assert task.batch(task.train, torch.arange(2))[0].shape == (2, 3, 32, 32)


def test_a_detector_that_knows_the_boxes_has_full_precision(fetched: Callable[[str], Path]) -> None:
    example = module(EXAMPLES / "detection" / "task.py")
    task = example.make(folder=str(fetched("emoji")), train=32, validation=24, width=4)
    check_task(task)
    _, batch = task.batch(task.validation, torch.arange(24))
    assert bool((batch["labels"] != example.BACKGROUND).any(1).all())  # each picture has an emoji
    sure = 9.0 * torch.nn.functional.one_hot(batch["labels"], example.BACKGROUND + 1)
    known = {"logits": sure, "corners": batch["corners"]}
    for metric in task.metrics.values():
        metric.score.reset()
        metric.score.update(*metric.arguments(known, batch))
        assert metric.score.compute() == 1.0
    assert 0 <= scores(task.new_model(), task, Ranks.alone())["mean_ap"] < 0.2


def test_vowels_are_sequences_with_lengths(fetched: Callable[[str], Path]) -> None:
    task = module(EXAMPLES / "vowels" / "task.py").make(folder=str(fetched("vowels")))
    check_task(task)
    assert [len(task.split(name)) for name in ("train", "validation", "test")] == [162, 108, 370]  # type: ignore[arg-type]
    lengths = [len(task.test[place][0]) for place in range(370)]
    assert (min(lengths), max(lengths)) == (7, 29)
