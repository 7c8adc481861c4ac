"""A sweep that Python describes is the one that a sweep file describes, and its task reaches other processes."""

import ast
import importlib
import subprocess
import sys
from functools import partial
from inspect import signature
from pathlib import Path

import pytest

from paretta import Choice, Distill, Float, Int, Iterate, Prune, Quantize, Sweep, Task, Train, WrongInput
from paretta.orchestrator.config.carried_task import CARRIED, TASK_FOLDER
from paretta.orchestrator.config.sections import SearchConfig, SweepConfig, TaskConfig
from paretta.pipelines.loading.load_task import load_task
from paretta.pipelines.stage import Stage
from paretta.pipelines.tasks.digits import make
from paretta.search_spaces.space.stage_space import StageSpace
from paretta.search_spaces.yaml_io import parse_yaml

ROOT = Path(__file__).parents[3]
SHIPPED = sorted([*ROOT.glob("examples/*/sweep.yaml"), *ROOT.glob("search_spaces/presets/*.yaml")])
FILE = """
task: {use: digits}
baseline: [{kind: train, epochs: 3}]
space:
  - {kind: prune, sparsity: {float: [0, 0.8]}, importance: {choice: [l1, l2]}}
  - choice: [null, {kind: quantize, bits: {"conv*": {int: [2, 8]}, "*": 8}}]
  - kind: iterate
    prune: {kind: prune, sparsity: {float: [0.1, 0.5], log: true}}
  - {kind: distill, epochs: 2, temperature: {float: [1, 10], log: true}}
objectives: [size, {kind: latency, budget_seconds: 3}, accuracy]
limits: [{meter: size, at_most: 50kB}]
search: {sampler: random, trials: 40}
budget: {hours: 2}
"""


def described() -> Sweep:
    return Sweep(
        task="digits",
        space=[
            Prune(sparsity=Float(0, 0.8), importance=Choice(["l1", "l2"])),
            Choice([None, Quantize(bits={"conv*": Int(2, 8), "*": 8})]),
            Iterate(prune=Prune(sparsity=Float(0.1, 0.5, log=True))),
            Distill(epochs=2, temperature=Float(1, 10, log=True)),
        ],
        baseline=[Train(epochs=3)],
        objectives=["size", {"kind": "latency", "budget_seconds": 3}, "accuracy"],
        limits=[{"meter": "size", "at_most": "50kB"}],
        trials=40,
        sampler="random",
        budget={"hours": 2},
    )


def read(text: str) -> Sweep:
    return Sweep.parse(parse_yaml(text, "sweep.yaml"), "sweep", ROOT)


def test_objects_say_what_a_file_says() -> None:
    assert described().document() == read(FILE).document()
    assert described().space == read(FILE).space
    assert described().limits == read(FILE).limits


def test_mappings_say_what_objects_say() -> None:
    space = [{"kind": "prune", "sparsity": Float(0, 0.8)}, {"choice": [None, {"kind": "quantize", "bits": 8}]}]
    objects = [Prune(sparsity=Float(0, 0.8)), Choice([None, Quantize(bits=8)])]
    assert Sweep("digits", space).space == Sweep("digits", objects).space


def test_the_file_of_a_sweep_says_the_same() -> None:
    text = described().to_yaml()
    assert text.splitlines()[0] == "# yaml-language-server: $schema=sweep.schema.json"
    assert read(text).document() == described().document()
    assert "  - {kind: distill, epochs: 2, temperature: {float: [1, 10], log: true}}" in text


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_shipped_file_survives_being_written(path: Path) -> None:
    shipped = Sweep.read(str(path))
    assert read(shipped.to_yaml()).document() == shipped.document()


def test_a_stage_with_a_hole_takes_the_place_of_a_stage() -> None:
    holed: object = Quantize(bits={"conv*": Int(2, 8)})
    assert isinstance(holed, StageSpace)
    assert repr(holed) == "Quantize(bits={'conv*': Int(low=2, high=8, log=False, step=1)})"
    assert isinstance(Quantize(bits={"conv*": 4}), Stage)


def test_a_function_of_a_module_is_named_and_anything_else_is_carried() -> None:
    named = Sweep(make, [Quantize(bits=8)])
    assert (named.config.task.use, named.carried) == ("paretta.pipelines.tasks.digits:make", None)
    assert named.folder == Path.cwd()  # the folder of a library is not uploaded to a cluster
    local = Sweep(partial(make), [Quantize(bits=8)])
    assert local.config.task.use == CARRIED
    assert local.carried is not None


def test_a_module_is_found_in_the_folder_that_it_was_imported_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "my_tasks.py").write_text(
        "from paretta.pipelines.tasks.digits import make as _make\n\n\ndef make():\n    return _make()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    tasks = importlib.import_module("my_package.my_tasks")
    named = Sweep(tasks.make, [Quantize(bits=8)])
    assert (named.config.task.use, named.folder) == ("my_package.my_tasks:make", tmp_path.resolve())


def test_the_file_of_a_carried_task_says_where_to_put_it() -> None:
    def my_task() -> Task:
        return make()

    sweep = Sweep(my_task, [Quantize(bits=8)])
    assert "my_task" in sweep.to_yaml().splitlines()[1]
    assert read(sweep.to_yaml()).config.task.use == "./mytask.py:my_task"


NOTEBOOK = """
import torch
from paretta import Metric, Quantize, Sweep, Task
from helper import rows

class Net(torch.nn.Linear):
    def __init__(self): super().__init__(4, 3)

def my_task(scale=1.0):
    data = torch.utils.data.TensorDataset(torch.full((rows, 4), scale), torch.zeros(rows, dtype=torch.long))
    metrics = {"accuracy": Metric(lambda outputs, targets: (outputs.argmax(1) == targets).float())}
    return Task(model=Net, train=data, validation=data, test=data, loss=torch.nn.functional.cross_entropy,
                metrics=metrics, example_input=torch.zeros(1, 4))

for name, task, options in (("function", my_task, {"scale": 2.0}), ("object", my_task(), {})):
    from pathlib import Path
    Sweep(task, [Quantize(bits=8)], options=options).placed(Path(name))
"""


def test_a_notebooks_task_loads_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("rows = 7")
    subprocess.run([sys.executable, "-c", NOTEBOOK], cwd=tmp_path, check=True)
    task = load_task(CARRIED, {"scale": 2.0}, tmp_path / "function" / TASK_FOLDER)
    assert task.train[0][0].tolist() == [2.0] * 4
    assert type(task.new_model()).__name__ == "Net"
    given = load_task(CARRIED, {}, tmp_path / "object" / TASK_FOLDER)
    assert (len(given.train), given.train[6][0].tolist()) == (7, [1.0] * 4)


def test_a_carried_task_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"task ./task.pkl: the file must exist.*kept only in its sweep's folder"):
        load_task(CARRIED, {}, tmp_path)


def test_what_cannot_travel_is_told_with_its_reason(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:

        def my_task() -> Task:
            file.write("")
            return make()

        with pytest.raises(WrongInput, match=r"pickling it for the workers failed: .*not opened for reading"):
            Sweep(my_task, [Quantize(bits=8)]).placed(tmp_path)


def test_what_is_no_part_of_a_sweep_is_told_with_its_place() -> None:
    with pytest.raises(
        WrongInput, match=r"space\[0\].sparsity: cannot be part of a sweep; got '<built-in function iter>'"
    ) as told:
        Sweep("digits", [{"kind": "prune", "sparsity": iter}, {"kind": "x"}])
    assert len(told.value.problems) == 1


def test_the_types_of_stages_know_each_default() -> None:
    """A type checker reads defaults only by their keyword; without them it asks for every setting."""
    files = [*(ROOT / "pipelines" / "stages").glob("*.py"), ROOT / "pipelines" / "training" / "train.py"]
    positional = [
        f"{file.name}:{call.lineno}"
        for file in files
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Field" and call.args
    ]
    assert positional == []


def test_every_section_of_a_sweep_file_is_an_argument() -> None:
    sections = SweepConfig.model_fields.keys() - {"version"}
    settings = (SearchConfig.model_fields | TaskConfig.model_fields).keys() - {"use"}
    assert {*sections - {"search"}, *settings, "name"} == signature(Sweep).parameters.keys()
    assert Sweep("digits", [Quantize(bits=8)], checkpoint={"every_minutes": 10}).config.checkpoint.every_minutes == 10
