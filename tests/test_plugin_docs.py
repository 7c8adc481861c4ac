"""The example in docs/plugins.md works as the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import paretta
import paretta.testing

PAGE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the example."""
    folder = tmp_path_factory.mktemp("example")
    for name, text in re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL):
        (folder / name).write_text(text)
    assert len(list(folder.iterdir())) == 3
    return folder


def run(folder: Path, *command: str) -> str:
    source = str(Path(next(iter(paretta.__path__))).parent)
    environment = {**os.environ, "PYTHONPATH": source, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_stage_passes_its_contract(folder: Path) -> None:
    assert re.search(r"^7 passed", run(folder, "pytest", "-q", "-p", "no:cacheprovider").splitlines()[-1])


def test_the_sweep_file_is_sound(folder: Path) -> None:
    assert "ScaleBias.factor" in run(folder, "paretta", "check", "sweep.yaml")


def test_the_page_names_every_contract() -> None:
    assert sorted(re.findall(r"^\| `(\w+Contract)`", PAGE, flags=re.MULTILINE)) == sorted(paretta.testing.__all__)
