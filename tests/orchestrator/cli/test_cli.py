"""The command line: frozen help, exit codes, one message per problem, and nothing written on wrong input."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from onnx import helper

from paretta.orchestrator.cli import main
from paretta.orchestrator.config.catalogue import REGISTRIES

GOLDEN = Path(__file__).parents[2] / "golden"
VERBS = sorted(main.commands)
SOUND = """
task: {use: digits}
baseline: [{kind: train, epochs: 1}]
space: [{kind: prune, sparsity: {float: [0, 0.5]}}, {kind: quantize, bits: {int: [2, 8]}}]
search: {trials: 2}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PARETTA_HOME", raising=False)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def refused(*arguments: str) -> str:
    """Run a verb that must refuse its input, and return the message."""
    before = _files()
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert _files() == before
    return result.output


def _files() -> dict[Path, bytes | None]:
    paths = [path for path in Path().rglob("*") if "__pycache__" not in path.parts]
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


def sweep_file(text: str) -> str:
    Path("sweep.yaml").write_text(text)
    return "sweep.yaml"


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_frozen(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    shown = call(*([verb] if verb else []), "--help").output
    golden = GOLDEN / f"help{'-' + verb if verb else ''}.txt"
    if os.environ.get("PARETTA_WRITE_GOLDEN"):
        golden.write_text(shown)
    assert shown == golden.read_text()


def test_help_and_search_spaces_load_nothing_heavy() -> None:
    code = (
        "import sys; import search_spaces, orchestrator, paretta.orchestrator.cli\n"
        "from click.testing import CliRunner\n"
        "assert CliRunner().invoke(paretta.orchestrator.cli.main, ['--help']).exit_code == 0\n"
        "heavy = ('torch', 'ray', 'mlflow', 'optuna', 'pandas', 'numpy', 'pydantic', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_listing_an_empty_home_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom paretta.orchestrator.cli import main\n"
        f"done = CliRunner().invoke(main, ['list', '--home', {str(tmp_path)!r}])\n"
        "print(done.output.strip(), [name for name in ('torch', 'ray', 'mlflow', 'pandas', 'numpy', 'rich') if name in "
        "sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"no sweep is in {tmp_path} []"


@pytest.mark.parametrize("noun", [*REGISTRIES, "presets"])
def test_every_noun_lists_names_with_a_story(noun: str) -> None:
    lines = call("list", noun).output.splitlines()
    assert lines
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)


def test_a_sound_sweep_is_said_to_be(here: Path) -> None:
    result = call("check", sweep_file(SOUND))
    assert result.exit_code == 0, result.output
    assert "sweep.yaml is sound" in result.output
    assert "prune.sparsity, quantize.bits" in result.output
    assert sorted(path.name for path in here.iterdir()) == ["sweep.yaml"]


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (("kind: prune", "kind: prun"), ["sweep.yaml:4 space[0]", "no stage is called 'prun'", "'prune'"]),
        (("sparsity", "sparsty"), ["sweep.yaml:4 space[0]", "'sparsty'", "did you mean 'sparsity'"]),
        (("0.5", "1.2"), ["sweep.yaml:4 space[0]", "sparsity", "1.2", "less than 1"]),
        (("[0, 0.5]", "[0.5, 0]"), ["sweep.yaml:4 space[0].sparsity", "low to high", "[0, 0.5]"]),
        (("[2, 8]", "[1, 8]"), ["sweep.yaml:4 space[1]", "bits", "1", "2"]),
        (("[2, 8]", "[2, 33]"), ["space[1]", "bits", "33", "8"]),
        (("{int: [2, 8]}", "four"), ["space[1]", "bits", "'four'"]),
        (("{int: [2, 8]}", "{int: [two, 8]}"), ["space[1].bits", "two whole numbers"]),
        (("trials: 2", "sampler: tpee"), ["sweep.yaml:5 search.sampler", "did you mean 'tpe'"]),
        (("trials: 2", "trails: 2"), ["sweep.yaml:5 search.trails", "did you mean 'trials'"]),
        (("trials: 2", "trials: 0"), ["sweep.yaml:5 search.trials", "greater than or equal to 1", "0"]),
        (("use: digits", "use: digit"), ["sweep.yaml:2 task.use", "did you mean 'digits'"]),
        (("use: digits", "use: ./no.py:make"), ["sweep.yaml:2 task.use", "no.py", "must exist"]),
        (("use: digits", "use: digits, options: {colour: 1}"), ["task.use", "colour"]),
        (("search:", "objectives: [size, acuracy]\nsearch:"), ["objectives[1]", "did you mean 'accuracy'"]),
        (("search:", "limits: [{meter: sise, at_most: 1kB}]\nsearch:"), ["limits[0]", "did you mean 'size'"]),
        (("search:", "limits: [{meter: size, at_most: 2ms}]\nsearch:"), ["limits[0]", "'B', not in 's'"]),
        (("search:", "limits: [{meter: size, most: 1kB}]\nsearch:"), ["sweep.yaml:5 limits[0].most", "'at_most'"]),
        (("search:", "measuring: {resources: {jetson: 0}}\nsearch:"), ["measuring.resources.jetson", "greater than 0"]),
        (("search:", "objectives: [size, size]\nsearch:"), ["objectives[1]", "named once"]),
        (("space:", "space: []\nspaces:"), ["sweep.yaml:4 space", "sweep.yaml:5 spaces"]),
    ],
)
def test_a_wrong_sweep_is_refused_with_place_value_rule_and_mend(
    here: Path, change: tuple[str, str], messages: list[str]
) -> None:
    assert change[0] in SOUND
    output = refused("check", sweep_file(SOUND.replace(*change)))
    assert all(message in output for message in messages), output


TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from paretta.pipelines.task import Metric, Task

def make(classes=3, samples=8, width=4):
    data = TensorDataset(torch.randn(8, 4), torch.arange(8) % classes)
    empty = TensorDataset(torch.randn(0, 4), torch.arange(0))
    return Task(
        model=lambda: nn.Linear(width, 3), train=data, validation=data if samples else empty, test=data,
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": Metric(lambda outputs, targets: (outputs.argmax(1) == targets).float())},
        example_input=torch.randn(1, 4),
    )

def wrong():
    return 3

broken = 1 / 0 if False else None
"""


@pytest.mark.parametrize(
    ("task", "messages"),
    [
        ("use: './t.py:make', options: {samples: 0}", ["task.validation", "at least one sample"]),
        ("use: './t.py:make', options: {classes: 5}", ["task.train[3]: class labels must be 0..2", "got [3]"]),
        ("use: './t.py:make', options: {width: 7}", ["running the model on example_input", "shapes"]),
        ("use: './t.py:wrong'", ["must return a Task", "'int'"]),
        ("use: './t.py:mke'", ["did you mean 'make'"]),
        ("use: './t.py:broken'", ["callable"]),
        ("use: './syntax.py:make'", ["importing it failed", "SyntaxError"]),
    ],
)
def test_a_wrong_task_is_refused(here: Path, task: str, messages: list[str]) -> None:
    Path("t.py").write_text(TASK)
    Path("syntax.py").write_text("def make(:\n")
    output = refused("check", sweep_file(SOUND.replace("use: digits", task)))
    assert all(message in output for message in ["sweep.yaml:2 task.use", *messages]), output


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (("launch", "digts"), ["no preset is called 'digts'", "did you mean 'digits'"]),
        (("launch", "none.yaml"), ["none.yaml", "no such file"]),
        (("launch", "digits", "--name", "a/b"), ["--name", "letters", "a/b"]),
        (("launch", "digits", "--sampler", "tpee"), ["--sampler", "did you mean 'tpe'"]),
        (("launch", "digits", "--trials", "0"), ["--trials", "greater than or equal to 1"]),
        (("launch", "digits", "--home", "/proc/none"), ["--home", "cannot be written", "/proc"]),
        (("launch", "digits", "--address", "127.0.0.1:1"), ["127.0.0.1:1", "no Ray cluster answers"]),
        (("launch", "digits", "--tracking-uri", "http://127.0.0.1:1"), ["http://127.0.0.1:1"]),
        (("front", "none"), ["no sweep is called 'none'"]),
        (("status", "none"), ["no sweep is called 'none'"]),
        (("pull", "none", "--to", "x"), ["no sweep is called 'none'"]),
        (("pull", "none", "--to", "x", "--at-most", "size"), ["--at-most", "METER=VALUE"]),
        (("list", "stage"), ["did you mean 'stages'"]),
        (("verify", "none"), ["no such folder"]),
        (("run", "none.yaml", "--to", "x"), ["no such file"]),
        (("serve", "best", "--port", "99999"), ["'--port': 99999 is not in the range"]),
    ],
)
def test_wrong_arguments_are_refused(here: Path, arguments: tuple[str, ...], messages: list[str]) -> None:
    output = refused(*arguments)
    assert all(message in output for message in messages), output


def test_a_taken_name_is_refused(here: Path) -> None:
    Path("sweeps/mine").mkdir(parents=True)
    assert "choose another, such as mine-2" in refused("launch", "digits", "--name", "mine")


def test_an_unknown_option_gets_a_hint() -> None:
    result = call("launch", "digits", "--trails", "3")
    assert result.exit_code == click.UsageError.exit_code == 2
    assert "--trials" in result.output


def test_a_model_is_packed_and_comes_back(here: Path) -> None:
    node = helper.make_node("Relu", ["input"], ["output"])
    ends = [helper.make_tensor_value_info(name, 1, ["n", 4]) for name in ("input", "output")]
    Path("model.onnx").write_bytes(
        helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:])).SerializeToString()
    )
    assert call("pack", "model.onnx", "--to", "small.prt").exit_code == 0
    assert call("unpack", "small.prt", "--to", "again").exit_code == 0
    assert Path("again/model.onnx").read_bytes() == Path("model.onnx").read_bytes()
    assert "the coded file must be new" in refused("pack", "model.onnx", "--to", "small.prt")
    assert "new or an empty folder" in refused("unpack", "small.prt", "--to", "again")
    assert "no such file; got 'large.prt'" in refused("unpack", "large.prt", "--to", "b")
    damaged = call("unpack", "model.onnx", "--to", "b")
    assert damaged.exit_code == 1
    assert damaged.output.startswith("error: model.onnx: expected a coded file")
    assert not Path("b").exists()
