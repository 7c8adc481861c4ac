"""What the shell completes, asked as a shell asks it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from synthetic_sweep import write_sweep

from paretta.orchestrator.cli import main
from paretta.orchestrator.config.sections import SearchConfig


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("digits", "digits-2", "faces"):
        write_sweep(tmp_path / name, trials=4, artifacts=False)
    return tmp_path


def completed(*words: str, typed: str) -> list[str]:
    shell = ShellComplete(main, {}, "paretta", "_PARETTA_COMPLETE")
    return [str(item.value) for item in shell.get_completions(list(words), typed)]


def test_names_of_sweeps_are_completed(home: Path) -> None:
    for verb in ("front", "status", "pull", "export"):
        assert completed(verb, "--home", str(home), typed="dig") == ["digits", "digits-2"]
    assert completed("launch", "--resume", "--home", str(home), typed="f") == ["faces"]
    assert "digits" in completed("launch", "--home", str(home), typed="")


def test_roles_and_measured_trials_are_completed(home: Path) -> None:
    found = completed("pull", "--home", str(home), typed="faces@")
    assert {"faces@knee", "faces@smallest", "faces@most-accurate", "faces@baseline"} <= set(found)
    assert completed("pull", "--home", str(home), typed="faces@sm") == ["faces@smallest"]
    assert completed("pull", "--home", str(home), typed="nobody@") == []


def test_names_of_extensions_and_nouns_are_completed() -> None:
    assert completed("launch", "digits", "--sampler", typed="grey") == ["grey_box"]
    assert completed("list", typed="sam") == ["samplers"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_this_program(shell: str) -> None:
    assert f"_PARETTA_COMPLETE={shell}_complete" in CliRunner().invoke(main, ["completion", shell]).output


def test_bash_completes_by_a_real_process(home: Path) -> None:
    code = "from paretta.orchestrator.cli import main; main(prog_name='paretta')"
    asked = {"_PARETTA_COMPLETE": "bash_complete", "COMP_WORDS": "paretta front fa", "COMP_CWORD": "2"}
    environment = {**os.environ, **asked, "PARETTA_HOME": str(home)}
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert made.stdout == "plain,faces\n"


def test_the_lists_tell_the_default_of_today() -> None:
    for noun, setting in (("samplers", "sampler"), ("stoppers", "stopper")):
        lines = CliRunner().invoke(main, ["list", noun]).output.splitlines()
        (default,) = [line.split()[0] for line in lines if line.endswith("(default)")]
        assert default == SearchConfig.model_fields[setting].default
        assert sum("default" in line for line in lines) == 1
