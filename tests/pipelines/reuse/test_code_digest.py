"""Two tasks that differ in one line never share a baseline, and tasks that do not differ do."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from paretta.pipelines.bench import derived_seed, seeded
from paretta.pipelines.loading.load_task import load_task
from paretta.pipelines.reuse.code_digest import code_digest, named_digest
from paretta.pipelines.reuse.prefixes import baseline_key
from paretta.pipelines.task import Task
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.plan import Plan
from paretta.search_spaces.user_code import load_object, look_in

TASK = """
import torch
from torch.utils.data import TensorDataset

from paretta.pipelines.task import Metric, Task
from {helper} import scale

WEIGHTS = torch.tensor([1.0, 1.0, {weight}])
INPUTS, LABELS = torch.arange(12.0).view(12, 1) / 12, torch.tensor([0, 1, 2] * 4)
DATA = TensorDataset(INPUTS, LABELS)


def make(smoothing=0.0):
    def loss(outputs, targets):
        return torch.nn.functional.cross_entropy(outputs * scale(), targets, WEIGHTS, label_smoothing=smoothing)

    accuracy = Metric(lambda outputs, targets: (outputs.argmax(1) == targets).float())
    return Task(lambda: torch.nn.Linear(1, 3), DATA, DATA, DATA, loss, {{"accuracy": accuracy}}, INPUTS[:1])
"""


def task_in(folder: Path, *, weight: float = 1.0, scale: str = "1.0", **options: float) -> Task:
    """A task in a separate file, in which class weight and scale affect only the loss."""
    folder.mkdir()
    helper = f"helper_of_{folder.name}"
    (folder / f"{helper}.py").write_text(f"def scale():\n    return {scale}\n")
    (folder / "task.py").write_text(TASK.format(helper=helper, weight=weight))
    return load_task("./task.py:make", options, folder)


def key(task: Task, **options: float) -> str:
    plan = Plan(({"kind": "train", "epochs": 1},))
    with seeded(derived_seed(0, "model")):
        model = task.new_model()
    origin: Document = {"task": {"use": "./task.py:make", "options": options}}
    return baseline_key(plan, task, model, 0, origin)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"weight": 1.5}),  # one number in one line; the first sample, whose loss is looked at, is of class 0
        ({}, {"scale": "1.0 + 1e-9"}),  # one line of the file beside it
    ],
)
def test_one_line_makes_another_baseline(tmp_path: Path, one: dict[str, float], other: dict[str, float]) -> None:
    first, second = task_in(tmp_path / "one", **one), task_in(tmp_path / "two", **other)
    assert key(first) != key(second)


def test_options_make_another_baseline(tmp_path: Path) -> None:
    task = task_in(tmp_path / "one", smoothing=1e-9)
    assert key(task, smoothing=0.0) != key(task, smoothing=1e-9)


def test_the_same_files_elsewhere_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = code_digest(task_in(tmp_path / "same"))
    monkeypatch.delitem(sys.modules, "helper_of_same")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(tmp_path / "same")])
    (tmp_path / "same").rename(tmp_path / "moved")
    assert code_digest(load_task("./task.py:make", {}, tmp_path / "moved")) == first


@pytest.mark.parametrize("where", ["site-packages", "dist-packages"])
def test_what_a_library_imports_later_is_no_code_of_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    library = tmp_path / where  # as of another environment on the path, or of the user
    library.mkdir()
    name = f"library_{where[:4]}"
    (library / f"{name}.py").write_text("def loss(outputs, targets):\n    return outputs.sum()\n")
    (library / f"{name}_more.py").write_text("MORE = 1\n")
    monkeypatch.syspath_prepend(library)
    task = replace(task_in(tmp_path / f"task_{where[:4]}"), loss=importlib.import_module(name).loss)
    before = code_digest(task)
    importlib.import_module(f"{name}_more")
    assert code_digest(task) == before


@pytest.mark.parametrize("edited", ["mine.py", "helper_of_mine.py"])
def test_one_line_of_a_stage_of_ones_own_makes_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "helper_of_mine", raising=False)
    (tmp_path / "helper_of_mine.py").write_text("FACTOR = 1\n")
    (tmp_path / "mine.py").write_text("from helper_of_mine import FACTOR\nclass Mine:\n    pass\n")
    (tmp_path / "unused.py").write_text("")
    look_in(tmp_path)
    document: Document = {"kind": "iterate", "stage": {"kind": "./mine.py:Mine"}}

    def digest() -> str:
        load_object("./mine.py:Mine", "here")
        return named_digest(document)

    first = digest()
    (tmp_path / "unused.py").write_text("EDITED = True\n")
    assert digest() == first
    with (tmp_path / edited).open("a") as file:
        file.write("EDITED = True\n")
    assert digest() != first
