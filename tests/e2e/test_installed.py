"""The built wheel works in a fresh environment, beside a project whose folders have the names of ours."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from paretta.dashboards.journal.record import SweepRecord

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "tests" / "own_project"
# by an entry point; the others by a file or a module beside the sweep file
THEIRS = [("tweak", "Shrink"), ("quantizer", "Plain"), ("meter", "NumFiles"), ("stopper", "patient")]
HOST = "https://host.example/owner/paretta"
BUILD = "import sys, setuptools.build_meta as build; print(build.build_{}(sys.argv[1]))"
TASK = """
from dashboards.numbers import WIDTH
from orchestrator import HIDDEN

from paretta.pipelines.tasks.digits import make as digits


def make():
    return digits(width=WIDTH, hidden=HIDDEN)
"""
USER = """
import paretta

front: paretta.Front = paretta.launch("sweep.yaml")
reveal_type(front.pick(prefer="accuracy"))
paretta.launch("sweep.yaml", trials="2")
paretta.Task(modle=None)
"""
# what is left out for speed: its types are not the question
HEAVY = ("torch", "ray", "mlflow", "optuna", "pandas", "onnx", "onnxruntime", "sklearn", "scipy", "matplotlib")


def files(*which: str) -> list[str]:
    """Return the files of the repository, as git knows them."""
    command = ["git", "ls-files", "-z", *which]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


def build(kind: str, folder: Path, into: Path) -> Path:
    into.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD.format(kind), str(into)]
    environment = {**os.environ, "PARETTA_REPOSITORY": HOST}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return into / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of a copy of the repository, so that building leaves nothing in it."""
    copy = tmp_path_factory.mktemp("copy") / "repository"
    for name in files("--cached", "--others", "--exclude-standard"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, copy / name)
        elif (ROOT / name).is_symlink():
            (copy / name).symlink_to((ROOT / name).readlink())
    return build("sdist", copy, copy.parent / "dist")


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    return build("wheel", sdist.parents[1] / "repository", sdist.parent)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment: the wheel is installed, and what it depends on is taken from here."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    theirs = _another_distribution(home / "theirs")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{theirs}\n")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, str(packages), str(wheel)], check=True)
    return home / "bin" / "python"


def _another_distribution(folder: Path) -> Path:
    """Write what an installed package leaves that offers a tweak, a quantizer, a meter and a stopper."""
    info = folder / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(PROJECT / "own_parts.py", folder / "their_parts.py")
    shutil.copy(PROJECT / "beside.py", folder)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = (f"[paretta.{group}]\ntheir_{name} = their_parts:{name}\n" for group, name in THEIRS)
    (info / "entry_points.txt").write_text("".join(points))
    return folder


def test_it_brings_one_name_and_only_real_files(wheel: Path, python: Path) -> None:
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    installed = {path.name for path in packages.iterdir()} - {"dependencies.pth", "bin"}
    assert sorted(name for name in installed if not name.endswith(".dist-info")) == ["paretta"]
    ours = packages / "paretta"
    assert not [path for path in ours.rglob("*") if path.is_symlink()]
    assert (ours / "py.typed").is_file()
    folders = ("orchestrator/", "pipelines/", "dashboards/", "search_spaces/")
    brought = {str(path.relative_to(ours)) for path in ours.rglob("*")}
    assert {name for name in files() if name.startswith(folders)} - brought == set()


def test_the_source_distribution_has_real_files_and_builds_the_same_wheel(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        assert {member.type for member in archive} <= {tarfile.REGTYPE, tarfile.DIRTYPE}
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    again = build("wheel", unpacked, tmp_path / "dist")
    assert contents(again) == contents(wheel)


def test_its_page_on_an_index_has_no_relative_link(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        page = archive.read(name).decode()
    assert f"Project-URL: Documentation, {HOST}/blob/main/docs/index.md" in page
    links = re.findall(r"\]\(([^)]+)\)", page.partition("\n\n")[2])
    assert f"{HOST}/raw/main/docs/pictures/front.png" in links
    assert f"{HOST}/blob/main/docs/tasks.md" in links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def contents(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {item.filename: item.CRC for item in archive.infolist()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for file in ("own_parts.py", "beside.py"):
        shutil.copy(PROJECT / file, folder)
    sweep = (PROJECT / "sweep.yaml").read_text()
    for _, name in THEIRS:
        sweep = re.sub(rf'"(\./own_parts\.py|own_parts):{name}"', f"their_{name}", sweep)
    (folder / "sweep.yaml").write_text(
        sweep.replace("use: digits, options: {width: 4, hidden: 16}", 'use: "pipelines.task:make"')
    )
    for name, file, text in (
        ("pipelines", "task.py", TASK),
        ("dashboards", "numbers.py", "WIDTH = 4\n"),
        ("orchestrator", "__init__.py", "HIDDEN = 16\n"),
    ):
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
        (folder / name / file).write_text(text)
    return folder


def paretta(python: Path, project: Path, *arguments: str, code: int = 0, **more: str) -> str:
    unset = {"PYTHONPATH", "PARETTA_HOME", "PARETTA_TRACKING_URI"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    command = [str(python), "-m", "paretta", *arguments]
    done = subprocess.run(
        command, cwd=project, env={**environment, **more}, capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_of_ones_own_parts_is_launched_interrupted_resumed_and_run_again(python: Path, project: Path) -> None:
    """Stage, meter, runtime, importance, quantizer, sensitivity, tweak, sampler and stopper reach every process."""
    paretta(python, project, "launch", "sweep.yaml", code=130, INTERRUPT_ONCE=str(project / "interrupted"))
    paretta(python, project, "launch", "--resume", "sweep")
    record = SweepRecord.read(project / "sweeps" / "sweep")
    trials = [trial for trial in record.trials.values() if trial.role == "trial"]
    assert [(trial.status, trial.reason) for trial in trials] == [("complete", None)] * 2
    assert {trial.value("num_files") for trial in trials} == {5.0}
    assert all((trial.value("throughput@Renamed") or 0) > 0 for trial in trials)
    assert [trial.knobs["ScaleBias.factor"] for trial in trials] == [1.0, 0.0]
    made = project / "sweeps" / "sweep" / str(trials[0].artifact)
    paretta(python, project, "run", str(made / "plan.yaml"), "--to", "again")
    assert (project / "again" / "model.onnx").read_bytes() == (made / "model.onnx").read_bytes()


def test_mypy_finds_our_types_from_a_users_file(python: Path, project: Path) -> None:
    (project / "user.py").write_text(USER)
    (project / "mypy.ini").write_text(
        "[mypy]\n" + "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in HEAVY)
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "--no-incremental"]
    command += ["--follow-imports=silent", "--config-file=mypy.ini", "--output=json", "user.py"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [(item["line"], item["code"]) for item in told if item["severity"] == "error"] == [
        (6, "arg-type"),
        (7, "call-arg"),
    ], done.stdout
    assert any("paretta.search_spaces.results.trial.Trial" in item["message"] for item in told if item["line"] == 5)
