"""What `paretta init` writes passes `paretta check`, and replaces nothing unless told to."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from paretta.orchestrator.cli import main
from paretta.orchestrator.config.check import check
from paretta.orchestrator.config.sweep import Sweep


def init(folder: Path, *arguments: str) -> str:
    done = CliRunner().invoke(main, ["init", *arguments, "--to", str(folder)])
    assert done.exit_code == 0, done.output
    return done.output


def commented_lines(path: Path) -> str:
    """The file with all that is commented out in force, for sections which are one line or continue it."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^# ((?:limits|budget|workers|  - \{meter).*)$", r"\1", text, flags=re.MULTILINE)


def test_the_example_passes_check_as_it_is(tmp_path: Path) -> None:
    told = init(tmp_path / "new", "--example")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "mytask.py",
        "sweep.schema.json",
        "sweep.yaml",
    ]
    assert "mytask.py" in told
    sweep = Sweep.read(str(tmp_path / "new" / "sweep.yaml"))
    assert check(sweep).warnings == ()
    assert (
        sweep.story
        == "What to compress, and what to try: `paretta check sweep.yaml`, then `paretta launch sweep.yaml`."
    )


def test_what_is_commented_out_is_right_too(tmp_path: Path) -> None:
    init(tmp_path, "--example")
    (tmp_path / "full.yaml").write_text(commented_lines(tmp_path / "sweep.yaml"))
    full = Sweep.read(str(tmp_path / "full.yaml"))
    assert [limit.meter for limit in full.limits] == ["size", "accuracy"]
    assert (full.config.budget.hours, full.config.workers.per_trial) == (2, 2)


def test_a_function_of_ones_own_gets_a_sweep_file(tmp_path: Path) -> None:
    init(tmp_path, "--example")
    (tmp_path / "sweep.yaml").unlink()
    (tmp_path / "sweep.schema.json").unlink()
    init(tmp_path, "--module", "./mytask.py:make")
    sweep = Sweep.read(str(tmp_path / "sweep.yaml"))
    assert (sweep.config.task.use, sweep.config.baseline) == ("./mytask.py:make", [])
    assert check(sweep).warnings == ()


def test_a_folder_of_images_gets_a_task(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="pip install 'paretta[images]'")
    pytest.importorskip("paretta.integrations.images")
    for label, colour in (("dark", 20), ("light", 230)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(10):
            image.new("RGB", (32, 24), (colour, colour + index, colour)).save(
                tmp_path / "photos" / label / f"{index}.png"
            )
    init(tmp_path / "new", "--image-folder", str(tmp_path / "photos"))
    checked = check(Sweep.read(str(tmp_path / "new" / "sweep.yaml")))
    assert sorted(checked.task.files) == ["classes.json", "preprocessor_config.json"]
    assert checked.warnings == ()


def test_texts_of_a_csv_file_get_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretta.orchestrator.config.starter._require_library", lambda *_: None)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"max_position_embeddings": 32}')
    with (tmp_path / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((f"word {index}", index % 2) for index in range(10))])
    init(tmp_path / "new", "--transformers", str(tmp_path / "model"), "--data", str(tmp_path / "data.csv"))
    written = (tmp_path / "new" / "mytask.py").read_text(encoding="utf-8")
    assert f"MODEL = {str(tmp_path / 'model')!r}" in written
    rows = "import mytask\nmytask.sequence_classification = lambda model, **rows: rows\nprint(mytask.make())"
    module = "types.SimpleNamespace(sequence_classification=None)"
    stub = f"import sys, types\nsys.modules['paretta.integrations.transformers'] = {module}\n"
    done = subprocess.run(
        [sys.executable, "-c", stub + rows], cwd=tmp_path / "new", capture_output=True, text=True, check=True
    )
    assert "'validation': [{'text': 'word 3', 'label': 1}, {'text': 'word 8', 'label': 0}]" in done.stdout
    assert "'max_length': 32}" in done.stdout  # no more tokens than the model knows positions


def test_no_file_is_replaced_unless_told_to(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("mine")
    for arguments, code in (((), 2), (("--force",), 0)):
        done = CliRunner().invoke(main, ["init", "--example", "--to", str(tmp_path), *arguments])
        assert done.exit_code == code
        assert ((tmp_path / "sweep.yaml").read_text() == "mine") == (code == 2)
    assert "task: " in (tmp_path / "sweep.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--module", "mytask"], "--module: is module:function or ./file.py:function; got 'mytask'"),
        (["--image-folder", "nowhere"], "--image-folder: there must be such a folder, with one for each class"),
        (["--transformers", "nowhere"], "--data: is needed with --transformers"),
        (["--example", "--module", "a:b"], "give one of --example, --module, --image-folder, --transformers"),
        ([], "give one of --example, --module, --image-folder, --transformers"),
    ],
)
def test_what_is_missing_is_told(arguments: list[str], told: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["init", *arguments, "--to", str(tmp_path / "new")])
    assert done.exit_code == 2
    assert told in done.output
    assert not (tmp_path / "new").exists()
