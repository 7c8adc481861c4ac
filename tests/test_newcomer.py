"""What a newcomer types on the site's first page works in an empty folder, from the check to the model's answer."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from paretta.orchestrator.monitor.home_table import KEPT_FILE

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "start" / "first-sweep.md").read_text(encoding="utf-8")
BASH, PYTHON = (re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) for language in ("bash", "python"))
LINES = [shlex.split(line, comments=True) for text in BASH for line in text.splitlines() if line]
SWEPT = ROOT / "sweeps"  # where `make sweep` has launched the page's sweep already, as the continuous integration does
# a smaller search than the page's, by an option that the page's verb has, and a limit that any candidate of it meets
SMALLER = {"launch digits": ["--trials", "1"]}
LOOSER = {"size=12kB": "size=1MB"}


def typed(line: list[str], folder: Path) -> "subprocess.Popen[str]":
    assert line[0] == "paretta"
    more = SMALLER.get(" ".join(line[1:3]), [])
    words = [LOOSER.get(word, word) for word in line[1:]]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PARETTA_")}
    command = [sys.executable, "-m", "paretta", *words, *more]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
def test_every_line_of_the_first_page_works_in_an_empty_folder(tmp_path: Path) -> None:
    said: dict[str, str] = {}
    for line in LINES:
        verb = " ".join(line[1:])
        if verb == "launch digits" and (SWEPT / "digits" / "report.html").is_file():
            shutil.copytree(SWEPT, tmp_path / "sweeps", ignore=shutil.ignore_patterns("ray", "cache", "checkpoints"))
            continue
        with typed(line, tmp_path) as running:
            if line[1] == "board":
                said[verb] = _seen(running)
                continue
            said[verb], _ = running.communicate()
        assert running.returncode == 0, f"{verb}: {said[verb]}"
    assert "digits.yaml is sound" in said["check digits"]
    if "launch digits" in said:
        assert "1 of 1 ended: 1 complete" in said["launch digits"]
        assert "paretta pull digits --prefer knee --to ./best" in said["launch digits"]
    assert "of 16 asked" in said["status digits"] or "1 complete of 1 asked" in said["status digits"]
    assert {"report.html", "journal.jsonl", KEPT_FILE} <= {
        path.name for path in (tmp_path / "sweeps" / "digits").iterdir()
    }
    assert said["board"].startswith("<!doctype html>")
    assert ">digits<" in said["board"]
    (program,) = PYTHON
    answered = subprocess.run(
        [sys.executable, "-I", "-c", f"{program}\nprint(scores.shape)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answered.stdout.strip() == "(1, 10)"
    assert (tmp_path / "small" / "model.onnx").is_file()


def _seen(board: "subprocess.Popen[str]") -> str:
    """Return the page at the address that the board says, and stop the board."""
    assert board.stdout is not None
    try:
        address = board.stdout.readline().removeprefix("sweeps: ").strip()
        with urlopen(address, timeout=60) as page:
            return str(page.read().decode())
    finally:
        board.send_signal(signal.SIGINT)
