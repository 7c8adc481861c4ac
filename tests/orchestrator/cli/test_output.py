"""Output to every kind of terminal, file and pipe, from real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from paretta.orchestrator.cli import main
from paretta.orchestrator.cli.shared import Verbs

Made = tuple[int, str, str]
SHOW = "import sys; from paretta.orchestrator.cli import main; main(prog_name='paretta')"
PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("größe")
    maker = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import synthetic_sweep as s; "
    maker += "s.write_sweep(Path(sys.argv[2]) / 'shown', trials=30, artifacts=False)"
    dashboards = Path(__file__).parents[2] / "dashboards"
    subprocess.run([sys.executable, "-c", maker, str(dashboards), str(folder)], check=True)
    return folder


def _shown(home: Path, verb: str, *, ends: str = "", **changes: str) -> Made:
    """Run a verb on the sweep through a shell, with `ends` behind the command."""
    command = f'exec 3>&1; {{ "$@"; echo $? >&3; }} {ends}' if ends else '"$@"; echo $?'
    made = subprocess.run(
        ["bash", "-c", command, "-", sys.executable, "-c", SHOW, verb, "shown", "--home", str(home)],
        capture_output=True,
        env={**os.environ, **changes},
        check=False,
    )
    *out, code = made.stdout.decode().strip().splitlines()
    return int(code), "\n".join(out), made.stderr.decode()


def test_ascii_terminal_is_shown_what_is_near(home: Path) -> None:
    code, out, err = _shown(home, "front", **PLAIN)
    assert (code, err) == (0, "")
    assert out.isascii()
    assert "+-" in out
    assert "; * knee" in out
    assert _shown(home, "front", PYTHONIOENCODING="ascii") == (0, out, "")


def test_reader_that_has_seen_enough_is_no_error(home: Path) -> None:
    assert _shown(home, "front", ends="| true") == (0, "", "")


def test_output_that_the_caller_closed_is_no_error(home: Path) -> None:
    assert _shown(home, "front", ends=">&-") == (0, "", "")


def test_output_that_cannot_be_written_is_one_line(home: Path) -> None:
    for verb in ("status", "--help"):
        code, _, err = _shown(home, verb, ends="> /dev/full")
        assert code == 1
        assert err.startswith("error: ")
        assert err.endswith("No space left on device\n")
        assert err.count("\n") == 1


def test_what_the_machine_refuses_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "journal.jsonl").write_bytes(b"5\n")
    made = CliRunner().invoke(main, ["status", "s", "--home", str(tmp_path)])
    assert made.exit_code == 1
    assert made.output.startswith(f"error: {tmp_path}/s/journal.jsonl:1: this sweep's record is damaged: ")
    assert made.output.count("\n") == 1
    (tmp_path / "s" / "journal.jsonl").unlink()
    (tmp_path / "s" / "journal.jsonl").symlink_to("/proc/self/mem")
    made = CliRunner().invoke(main, ["status", "s", "--home", str(tmp_path)])
    assert (made.exit_code, made.output) == (1, "error: Input/output error\n")


def test_a_sweep_that_has_recorded_nothing_yet_claims_nothing(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "journal.jsonl").touch()
    made = CliRunner().invoke(main, ["status", "s", "--home", str(tmp_path)])
    assert made.exit_code == 0
    assert made.output.splitlines()[:2] == ["s: running, no event yet", "trials: none yet"]
    as_json = CliRunner().invoke(main, ["status", "s", "--home", str(tmp_path), "--json"]).output
    assert '"silent_s": null' in as_json


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt, 130), (EOFError, 1)], ids=["Ctrl-C", "Ctrl-D"])
def test_a_verb_that_is_interrupted_ends_as_the_shell_expects(raised: type[BaseException], code: int) -> None:
    verbs = Verbs("verbs")

    @verbs.command()
    def wait() -> None:
        raise raised

    ended = CliRunner().invoke(verbs, ["wait"])
    assert (ended.exit_code, ended.output.strip()) == (code, "Aborted!")
