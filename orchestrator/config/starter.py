"""The first files of a user's sweep: a commented sweep.yaml, and a task to start from."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from paretta.orchestrator.config.sweep import SCHEMA_LINE
from paretta.search_spaces.errors import Problem, WrongInput

SWEEP, TASK, SCHEMA = "sweep.yaml", "mytask.py", "sweep.schema.json"
_LONGEST_TEXT: Final = 128

_BASELINE: Final = """\
# The uncompressed model: what every number is relative to, and the teacher of every candidate.
baseline:
  - {kind: train, epochs: 10, lr: 0.003, batch_size: 64}
"""
_TRAINED: Final = """\
# The model comes trained. Otherwise say how it is trained, once for all candidates:
# baseline:
#   - {kind: train, epochs: 20, lr: 0.001, batch_size: 64}
"""
_SWEEP: Final = """\
# What to compress, and what to try: `paretta check sweep.yaml`, then `paretta launch sweep.yaml`.
{schema}
task: {task}

{baseline}
# A plan with holes: {{float: [low, high]}}, {{int: [low, high]}} and {{choice: [a, b]}} are filled by the search.
# `paretta list stages` names the stages, the reference of the documentation their settings.
space:
  - {{kind: prune, sparsity: {{float: [0.0, 0.6]}}, round_to: 8}}  # the share of channels that go
  - {{kind: distill, epochs: {epochs}, lr: {lr}, batch_size: {batch}}}  # recovers before weights are rounded
  - {{kind: quantize, bits: {{int: [4, 8]}}}}  # of each layer; {{"conv*": {{int: [2, 8]}}, "*": 8}} by its name
  - {{kind: distill, epochs: {epochs}, lr: {lr}, batch_size: {batch}, temperature: {{float: [1, 6], log: true}}}}

# Smaller size, shorter latency; then metrics of the task.
objectives: [size, latency, {metric}]

# What every point of the front must meet, if anything:
# limits:
#   - {{meter: size, at_most: 500kB}}
#   - {{meter: {metric}, at_least: {{below_baseline: 1%}}}}

search: {{sampler: grey_box, stopper: index, trials: 16, seed: 0}}

# End the search early; what runs is completed:
# budget: {{hours: 2}}

# workers: {{per_trial: 2}}   # data-parallel workers of one candidate; gpus: 1 puts each on a GPU
"""
_EXAMPLE: Final = '''\
"""The task: the model, its data, and what counts. This one reads handwritten digits; put your own in their place."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

from paretta import Metric, Task


class Net(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.fc = nn.Linear(width * 4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.max_pool2d(self.conv1(images).relu(), 2)
        hidden = nn.functional.max_pool2d(self.conv2(hidden).relu(), 2)
        return self.fc(hidden.flatten(1))


def make() -> Task:
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.images, dtype=torch.float32)[order, None] / 16
    labels = torch.tensor(digits.target)[order]
    parts = (slice(0, 1077), slice(1077, 1437), slice(1437, None))
    train, validation, test = (TensorDataset(images[part], labels[part]) for part in parts)
    return Task(
        model=Net,  # a class or a function; a model that is trained already is given as it is
        train=train,  # any data sets of (input, target) with a length
        validation=validation,  # candidates are compared on it
        test=test,  # read once, when the front is final
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": Metric(lambda outputs, targets: (outputs.argmax(1) == targets).float())},
        example_input=torch.zeros(1, 1, 8, 8),  # one input, with its batch axis
    )
'''
_IMAGES: Final = '''\
"""The task: an image classifier on a folder of images, a folder for each class."""

from torch import nn

from paretta import Task
from paretta.integrations.images import ImagePreprocessing, image_folder_task


class Net(nn.Module):
    """Put your own model here, or give a trained one to `image_folder_task`."""

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, images):  # [n, 3, height, width]
        hidden = self.conv3(self.conv2(self.conv1(images).relu()).relu()).relu()
        return self.fc(hidden.mean((2, 3)))


def make() -> Task:
    # delivered beside each model as preprocessor_config.json, with the names of the classes
    preprocessing = ImagePreprocessing(size=(64, 64))
    return image_folder_task({folder!r}, Net, preprocessing=preprocessing)
'''
_TEXTS: Final = '''\
"""The task: a text classifier of transformers, on the rows of a CSV file."""

import csv
from pathlib import Path

from paretta import Task
from paretta.integrations.transformers import sequence_classification

MODEL = {model!r}  # a folder that `save_pretrained` wrote, with its tokenizer
DATA = Path({data!r})  # CSV with the columns `text` and `label`; a label is a number or a name of the model's config


def make() -> Task:
    with DATA.open(newline="", encoding="utf-8") as file:
        rows = [
            {{"text": row["text"], "label": int(row["label"]) if row["label"].isdigit() else row["label"]}}
            for row in csv.DictReader(file)
        ]
    # every fifth row is for validation, every other fifth for the test; give your own splits if you have them
    return sequence_classification(
        MODEL,
        train=[row for index, row in enumerate(rows) if index % 5 < 3],
        validation=rows[3::5],
        test=rows[4::5],
        max_length={length},
    )
'''


@dataclass(frozen=True, slots=True)
class Starter:
    """Files to begin with, by name."""

    files: Mapping[str, str]

    def with_schema(self, schema: str) -> "Starter":
        """Add the schema that the sweep file's header names, for editors."""
        return Starter({**self.files, SCHEMA: schema})

    def write(self, folder: Path, *, force: bool = False) -> list[Path]:
        """Write the files and return their paths. Raises `WrongInput`, and writes nothing, if one exists already."""
        taken = [str(folder / name) for name in self.files if (folder / name).exists()]
        if taken and not force:
            raise WrongInput(Problem("init", "these files exist", ", ".join(taken), "add --force to replace them"))
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_text(content, encoding="utf-8")
        return [folder / name for name in self.files]


def example() -> Starter:
    """Return a task that runs as it is, and a sweep of it."""
    return Starter({TASK: _EXAMPLE, SWEEP: _sweep(f"./{TASK}:make", _BASELINE)})


def of_function(reference: str, metric: str = "accuracy") -> Starter:
    """Return a sweep of the task that a function makes, such as ``mytask:make``; its model comes trained.

    Raises `WrongInput` for a text that names no function.
    """
    place, colon, name = reference.partition(":")
    if not (place and colon and name):
        raise WrongInput(
            Problem("--module", "is module:function or ./file.py:function", reference, "such as mytask:make")
        )
    return Starter({SWEEP: _sweep(reference, _TRAINED, metric=metric)})


def of_images(folder: str) -> Starter:
    """Return a task on a folder of images, a folder for each class, and a sweep of it."""
    if not Path(folder).is_dir():
        raise WrongInput(Problem("--image-folder", "there must be such a folder, with one for each class", folder))
    _require_library("--image-folder", "PIL", "images")
    return Starter({TASK: _IMAGES.replace("{folder!r}", repr(folder)), SWEEP: _sweep(f"./{TASK}:make", _BASELINE)})


def of_transformers(model: str, data: str) -> Starter:
    """Return a task of a text classifier of transformers, and a sweep of it."""
    for option, path in (("--transformers", model), ("--data", data)):
        if not Path(path).exists():
            rule = (
                "there must be such a folder, as save_pretrained writes it"
                if path == model
                else "there must be such a file"
            )
            raise WrongInput(Problem(option, rule, path))
    _require_library("--transformers", "transformers", "transformers")
    task = _TEXTS.format(model=model, data=data, length=min(_LONGEST_TEXT, _positions(Path(model))))
    return Starter({TASK: task, SWEEP: _sweep(f"./{TASK}:make", _TRAINED, epochs=2, lr=0.00005, batch=16)})


def _positions(model: Path) -> int:
    """Return how many tokens a saved model takes at most; the longest text of a starter if its config does not say."""
    with suppress(OSError, ValueError, AttributeError):
        positions = json.loads((model / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
        if isinstance(positions, int) and positions > 1:
            return positions
    return _LONGEST_TEXT


def _require_library(option: str, module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise WrongInput(Problem(option, f"{module} is not installed", None, f"pip install 'paretta[{extra}]'"))


def _sweep(
    use: str, baseline: str, *, metric: str = "accuracy", epochs: int = 3, lr: float = 0.003, batch: int = 64
) -> str:
    return _SWEEP.format(
        schema=SCHEMA_LINE,
        task=f'{{use: "{use}"}}',
        baseline=baseline,
        metric=metric,
        epochs=epochs,
        lr=lr,
        batch=batch,
    )
