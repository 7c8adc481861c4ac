"""A machine that only delivers needs the few packages of deploy/runtime.txt, and no other is imported there."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from packaging.requirements import Requirement
from runtime_only import HIDING, LISTED, allowed_packages, closure
from synthetic_sweep import doubling_model, write_files

from paretta.orchestrator.delivery.pack import pack

ROOT = Path(__file__).parents[1]
# runs the command line
ALONE = f"""
import sys
allowed = set(sys.argv.pop(1).split(","))
{HIDING}
from paretta.orchestrator.cli import main
main()
"""


@pytest.fixture(scope="module")
def allowed() -> str:
    return ",".join(allowed_packages())


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edge") / "best"
    plan = b"task: {use: digits}\nstages: []\n"
    write_files(folder, "7", plan)
    return folder


def _command(allowed: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", ALONE, allowed, *arguments]


def _run(allowed: str, *arguments: str) -> str:
    done = subprocess.run(_command(allowed, *arguments), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_listed_packages_are_those_of_the_whole_installation_in_the_same_versions() -> None:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert LISTED
    assert {str(requirement) for requirement in LISTED} <= {str(Requirement(text)) for text in whole}


def test_the_large_packages_are_not_among_those_that_are_brought() -> None:
    assert closure(LISTED) & {"torch", "ray", "mlflow", "pandas", "scipy", "scikit-learn", "pyarrow"} == set()


def test_a_pulled_folder_is_verified_without_torch(allowed: str, pulled: Path) -> None:
    said = _run(allowed, "verify", str(pulled))
    assert "manifest: confirmed, every file is what its manifest says" in said
    refused = subprocess.run(
        _command(allowed, "verify", str(pulled), "--task", "digits"), capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --task: a task needs torch, which is not installed here; got 'digits'")


def test_a_packed_model_is_unpacked_without_torch(allowed: str, pulled: Path, tmp_path: Path) -> None:
    pack(pulled, tmp_path / "best.prt")
    _run(allowed, "unpack", str(tmp_path / "best.prt"), "--to", str(tmp_path / "again"))
    assert (tmp_path / "again" / "model.onnx").read_bytes() == doubling_model("7")


def test_a_pulled_folder_is_served_without_mlflow(allowed: str, pulled: Path) -> None:
    command = _command(allowed, "serve", str(pulled), "--port", "0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/invocations", url), server.communicate(timeout=10)
            body = json.dumps({"inputs": {"x": [[1, 2, 3]]}}).encode()
            with urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=60) as answer:
                assert json.load(answer) == {"predictions": {"y": [[2.0, 4.0, 6.0]]}}
        finally:
            server.terminate()
        assert server.wait(timeout=30) == 0
