"""A sweep is resumed, and points are taken over, only with the code that produced its numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from paretta.dashboards.journal.journal import Journal
from paretta.orchestrator.cli import main
from paretta.orchestrator.config.check import check, check_report
from paretta.orchestrator.config.sweep import Sweep
from paretta.orchestrator.storage.home import Home
from paretta.orchestrator.sweeps import launcher
from paretta.orchestrator.sweeps.earlier import earlier_sweeps
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.errors import WrongInput

TASK = """
import torch
from torch.utils.data import TensorDataset
from paretta.pipelines.task import Metric, Task
from width_of_{name} import HIDDEN

INPUTS = torch.arange(12.0).view(12, 1) / 12
TRAIN, OTHER = (TensorDataset(INPUTS + shift, torch.arange(12) % 3) for shift in (0, {shift}))


def make():
    model = lambda: torch.nn.Sequential(torch.nn.Linear(1, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 3))
    metrics = {{"accuracy": Metric(lambda o, t: (o.argmax(1) == t).float())}}
    return Task(model, TRAIN, OTHER, TRAIN, torch.nn.functional.cross_entropy, metrics, INPUTS[:1])
"""
SWEEP = """# a story
task: {use: "./task.py:make"}
baseline: [{kind: train, epochs: 1, batch_size: 4}]
space: [{kind: quantize, bits: {choice: [4, 8]}}]
objectives: [size, accuracy]
"""


def begun(tmp_path: Path, name: str, *, told: bool = True, shift: float = 1.0) -> Path:
    """Write a task, its sweep, and the journal of that sweep, interrupted at once; return the task's folder."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / f"width_of_{name}.py").write_text("HIDDEN = 4\n")
    (folder / "task.py").write_text(TASK.format(name=name, shift=shift))
    (folder / "sweep.yaml").write_text(SWEEP)
    sweep = Sweep.read(str(folder / "sweep.yaml"))
    checked = check(sweep)
    code: dict[str, Json] = {"code": dict(checked.code)} if told else {}
    facts: dict[str, Json] = {"folder": str(folder), "data_digest": checked.data_digest, **code}
    (tmp_path / "home" / "sweep").mkdir(parents=True)
    with Journal(tmp_path / "home" / "sweep") as journal:
        journal.sweep(name="sweep", config=sweep.document(), objectives=checked.objectives, facts=facts)
        journal.end("stopped", "interrupted")
    return folder


@pytest.fixture
def going_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records events in place of a cluster."""
    gone: list[str] = []

    @contextmanager
    def prepared(*_: object, **__: object) -> Iterator[str]:
        yield "prepared"

    monkeypatch.setattr(launcher, "_prepared", prepared)
    monkeypatch.setattr(launcher, "run_sweep", lambda *arguments: gone.append(str(arguments[0])))
    return gone


def test_a_sweep_goes_on_with_the_code_that_it_began_with(tmp_path: Path, going_on: list[str]) -> None:
    folder = begun(tmp_path, "same")
    (folder / "unrelated.py").write_text("HIDDEN = 5\n")
    launcher.resume("sweep", home=tmp_path / "home")
    assert going_on == ["prepared"]


def test_code_that_changed_is_named_and_refused_unless_told_otherwise(tmp_path: Path, going_on: list[str]) -> None:
    """One number in the file beside the task's makes another model."""
    folder = begun(tmp_path, "edited")
    task = folder / "task.py"
    task.write_text(task.read_text().replace("HIDDEN, 3", "HIDDEN, 4"))
    with pytest.raises(WrongInput, match=r"code has changed since the sweep started.*task\.py changed.*--changed-code"):
        launcher.resume("sweep", home=tmp_path / "home")
    assert going_on == []
    launcher.resume("sweep", home=tmp_path / "home", changed_code=True)
    assert going_on == ["prepared"]


def test_a_sweep_that_says_nothing_of_its_code_goes_on(tmp_path: Path, going_on: list[str]) -> None:
    """As those of earlier versions."""
    folder = begun(tmp_path, "silent", told=False)
    (folder / "task.py").write_text((folder / "task.py").read_text() + "# more\n")
    launcher.resume("sweep", home=tmp_path / "home")
    assert going_on == ["prepared"]


def test_points_of_another_model_are_not_taken_over(tmp_path: Path) -> None:
    folder, home = begun(tmp_path, "warm"), Home.at(tmp_path / "home")
    (folder / "warm.yaml").write_text(f"{SWEEP}search: {{warm_start: [sweep]}}\n")
    sweep = Sweep.read(str(folder / "warm.yaml"))
    assert [earlier.name for earlier in earlier_sweeps(sweep, check(sweep), home)] == ["sweep"]
    (folder / "width_of_warm.py").write_text("HIDDEN = 5\n")
    with pytest.raises(WrongInput, match=r"used other code of the task: width_of_warm\.py changed"):
        earlier_sweeps(sweep, check(sweep), home)
    (folder / "warm.yaml").write_text(f"{SWEEP}search: {{warm_start: [sweeep]}}\n")
    told = CliRunner().invoke(main, ["check", str(folder / "warm.yaml"), "--home", str(home.path)])
    assert told.exit_code == 2
    assert "search.warm_start[0]: sweep in " in told.output
    assert "no sweep is called 'sweeep'; did you mean 'sweep'?" in told.output
    assert "Traceback" not in told.output


@pytest.mark.parametrize(("shift", "pairs"), [(0.0, 3), (1.0, 1)])
def test_splits_with_the_same_samples_are_told(tmp_path: Path, shift: float, pairs: int) -> None:
    """The test split of this task is its training split; without a shift all three are."""
    sweep = Sweep.read(str(begun(tmp_path, f"shift{int(shift)}", shift=shift) / "sweep.yaml"))
    told = check_report(sweep, check(sweep))
    assert "warning: train and test hold the same samples" in told
    assert told.count("hold the same samples") == pairs
