"""Untrusted folders: each gives a one-line message with file and line, and none can block the reader."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from paretta.orchestrator.delivery.verify import verify_folder
from paretta.pipelines import artifact
from paretta.pipelines.artifact import open_artifact, verify_files, write
from paretta.search_spaces.errors import DamagedArtifact, WrongInput
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan

PLAN = Plan((), ({"kind": "prune", "sparsity": 0.5},))
DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def model() -> bytes:
    import torch

    from paretta.pipelines.export.to_onnx import to_bytes

    return to_bytes(nn.Linear(4, 2).eval(), torch.zeros(1, 4))


@pytest.fixture
def folder(tmp_path: Path, model: bytes) -> Path:
    readings = {"size": Reading(float(len(model)), "B"), "latency": Reading(0.5, "ratio", 0.4, 0.6, 9)}
    return write(tmp_path / "a", model, plan=PLAN, seed=0, data_digest="tensors:ab", readings=readings).folder


def _sealed(folder: Path, name: str, content: str) -> None:
    """Put `content` in a file's place, with the digest that belongs to it."""
    (folder / name).write_text(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(content.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True))


def _change(change: Callable[[dict[str, object]], object]) -> Callable[[str], str]:
    def changed(text: str) -> str:
        document = json.loads(text)
        change(document)
        return json.dumps(document, indent=2, sort_keys=True)

    return changed


READINGS = {
    "not JSON": (lambda text: text.replace('"ratio",', '"ratio"'), 9, "expected JSON, found Expecting ',' delimiter"),
    "list": (lambda _: "[1]", 1, "expected readings by name, found list"),
    "deep": (lambda _: DEEP, 1, "expected JSON, found maximum recursion"),
    "NaN": (lambda text: text.replace("0.5", "NaN"), 2, "expected a reading of latency, found `value` must be finite"),
    "text": (_change(lambda d: d["size"].update(value="1 kB")), 11, "expected a reading of size, found value '1 kB'"),
    "true": (_change(lambda d: d["size"].update(low=True)), 11, "expected a reading of size, found low True"),
    "missing": (_change(lambda d: d["size"].pop("unit")), 11, "expected a reading of size, found no 'unit' in it"),
    "number": (_change(lambda d: d.update(size=5)), 11, "expected a reading of size, found int"),
}


@pytest.mark.parametrize("case", READINGS)
def test_wrong_readings_are_told_with_their_line(folder: Path, case: str) -> None:
    change, line, said = READINGS[case]
    path = folder / "readings.json"
    _sealed(folder, "readings.json", change(path.read_text()))
    with pytest.raises(DamagedArtifact) as found:
        open_artifact(folder)
    assert str(found.value).startswith(f"{path}:{line}: {said}")
    assert "\n" not in str(found.value)
    manifest, readings = verify_folder(folder)
    assert (manifest.outcome, readings.outcome) == ("confirmed", "mismatch")
    assert readings.words == str(found.value)


MANIFESTS = {
    "not JSON": (lambda text: text[:60], "expected JSON"),
    "deep": (lambda _: DEEP, "expected JSON, found maximum recursion"),
    "number": (lambda _: "5", "expected a manifest of format 1, found 'int'"),
    "format": (_change(lambda d: d.update(format=99)), "expected a manifest of format 1, found 99"),
    "files": (_change(lambda d: d.update(files=[])), "expected digests of"),
    "path": (_change(lambda d: d["files"].update({"../../x": "0"})), "expected digests of"),
    "seed": (_change(lambda d: d.update(seed="one")), "expected seed, found 'one'"),
    "layers": (_change(lambda d: d.update(layers=5)), "expected what became of each layer, found 5"),
    "layer": (_change(lambda d: d.update(layers={"a": 1})), "expected what became of each layer, found"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_wrong_manifest_is_told_with_its_line(folder: Path, case: str) -> None:
    change, said = MANIFESTS[case]
    path = folder / "manifest.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(DamagedArtifact) as found:
        open_artifact(folder)
    where, _, rest = str(found.value).partition(": ")
    assert where.rpartition(":")[0] == str(path)
    assert rest.startswith(said)
    assert "\n" not in rest
    if case in ("not JSON", "deep", "number", "files", "path"):
        (finding,) = verify_folder(folder)
        assert (finding.name, finding.outcome) == ("manifest", "mismatch")


@pytest.mark.parametrize("name", [*artifact.FILES, artifact.MANIFEST])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "dangling"])
def test_what_is_no_regular_file_is_never_opened(folder: Path, tmp_path: Path, name: str, kind: str) -> None:
    path = folder / name
    path.rename(tmp_path / "aside")
    if kind == "pipe":
        os.mkfifo(path)  # to open it would wait for ever
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "aside" if kind == "link" else "nowhere")
    with pytest.raises(DamagedArtifact, match=rf"{name}: expected a regular file"):
        verify_files(folder)
    (finding,) = verify_folder(folder)
    assert (finding.name, finding.outcome) == ("manifest", "mismatch")
    assert f"{name}: expected a regular file" in finding.words


def test_plan_that_is_none_is_told(folder: Path) -> None:
    for content in ("- 1\n", "a: [\n", "baseline: 5\nstages: 5\n"):
        _sealed(folder, "plan.yaml", content)
        with pytest.raises(DamagedArtifact, match=r"plan\.yaml: expected a plan, found"):
            open_artifact(folder)


def test_options_that_no_model_can_have_are_told(tmp_path: Path) -> None:
    import torch

    from paretta.pipelines.export.to_onnx import to_bytes
    from paretta.pipelines.loading.digests import data_digest
    from paretta.pipelines.loading.load_task import load_task

    digits = to_bytes(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval(), torch.zeros(1, 1, 8, 8))
    write(
        tmp_path / "a",
        digits,
        plan=PLAN,
        seed=0,
        data_digest=data_digest(load_task("digits")),
        readings={"accuracy": Reading(0.5, "share", num_samples=360)},
        origin={"task": {"use": "digits", "options": {"width": -1}}},
    )
    with pytest.raises(
        WrongInput, match=r"^task digits: scoring the model's answers with it failed: \w+Error: .*negative"
    ):
        verify_folder(tmp_path / "a")


def test_options_of_a_model_that_no_memory_holds_are_refused(folder: Path) -> None:
    """A hostile folder could have the whole memory of the machine taken that verifies it."""
    for name in ("width", "hidden"):
        recipe = f"task: {{use: digits, options: {{{name}: 1000000000}}}}\nseed: 0\nstages: []\n"
        _sealed(folder, "plan.yaml", recipe)
        with pytest.raises(WrongInput, match=f"task digits: {name}: must be at most 1024; got 1000000000"):
            verify_folder(folder)
