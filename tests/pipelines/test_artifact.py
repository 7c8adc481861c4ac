"""A delivered folder reads back as it was written, and any change to it is named."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from paretta.pipelines import artifact
from paretta.search_spaces.errors import DamagedArtifact
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan

PLAN = Plan(({"kind": "train", "epochs": 2},), ({"kind": "quantize", "bits": {"conv*": 4, "*": 8}},))
READINGS = {"size": Reading(1234, "B"), "accuracy": Reading(0.5, "share", low=0.4, high=0.6, num_samples=10)}


def model_bytes() -> bytes:
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 2])
    result = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph([helper.make_node("Neg", ["input"], ["output"])], "g", [value], [result])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()


def written(folder: Path) -> artifact.Artifact:
    return artifact.write(folder, model_bytes(), plan=PLAN, seed=7, data_digest="tensors:abc", readings=READINGS)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written(tmp_path / "a")
    found = artifact.open_artifact(tmp_path / "a")
    assert found.plan.fingerprint == PLAN.fingerprint
    assert dict(found.readings) == READINGS
    assert (found.seed, found.data_digest) == (7, "tensors:abc")
    assert found.model_path.read_bytes() == model_bytes()
    for name, digest in found.digests.items():
        assert hashlib.sha256((tmp_path / "a" / name).read_bytes()).hexdigest() == digest
    assert set(contents(tmp_path / "a")) == {"model.onnx", "plan.yaml", "readings.json", "manifest.json"}
    outputs = found.session().run(None, {"input": np.ones((3, 2), np.float32)})[0]
    assert (outputs == -1).all()


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    written(tmp_path / "a")
    written(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_readings_are_recorded_later_and_nothing_else_changes(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    artifact.write(folder, model_bytes(), plan=PLAN, seed=7, data_digest="tensors:abc")
    before = contents(folder)
    assert dict(artifact.open_artifact(folder).readings) == {}
    assert dict(artifact.record(folder, READINGS).readings) == READINGS
    after = contents(folder)
    assert {name for name in before if before[name] != after[name]} == {"readings.json", "manifest.json"}
    written(tmp_path / "b")
    assert after == contents(tmp_path / "b")


def test_a_sample_lies_beside_the_model_and_is_proved_like_it(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    artifact.write(folder, model_bytes(), plan=PLAN, seed=7, data_digest="tensors:abc", sample=b"one input")
    artifact.record(folder, READINGS)
    assert (folder / "sample.npz").read_bytes() == b"one input"
    assert artifact.open_artifact(folder).digests["sample.npz"] == hashlib.sha256(b"one input").hexdigest()
    (folder / "sample.npz").write_bytes(b"another input")
    with pytest.raises(DamagedArtifact, match=r"sample\.npz: expected sha256"):
        artifact.verify_files(folder)


def test_files_of_the_task_lie_beside_the_model_and_are_proved_like_it(tmp_path: Path) -> None:
    files = {"preprocessor_config.json": b"{}"}
    artifact.write(tmp_path, model_bytes(), plan=PLAN, seed=7, data_digest="tensors:abc", files=files)
    artifact.record(tmp_path, READINGS)
    assert artifact.open_artifact(tmp_path).digests["preprocessor_config.json"] == hashlib.sha256(b"{}").hexdigest()
    (tmp_path / "preprocessor_config.json").write_bytes(b"[]")
    with pytest.raises(DamagedArtifact, match=r"preprocessor_config\.json: expected sha256"):
        artifact.verify_files(tmp_path)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", ".hidden", "a/b", "", "a" * 101])
def test_a_manifest_that_names_a_file_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    written(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["files"][name] = "0"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedArtifact, match="expected digests of"):
        artifact.verify_files(tmp_path)


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        ({}, {}),
        ({"conv": None, "gate": "no integer form", "table": "no layer's"}, {"float_layers": "gate, table"}),
        ({"conv": None, "head": None}, {"float_layers": ""}),
        ({"conv": "not quantized", "head": "not quantized"}, {"float_layers": "all"}),
    ],
)
def test_layers_that_compute_in_floats_are_named(
    reasons: dict[str, str | None], told: dict[str, str], tmp_path: Path
) -> None:
    layers = {name: {"in_floats": reason} for name, reason in reasons.items()}
    artifact.write(tmp_path, model_bytes(), plan=PLAN, seed=7, data_digest="tensors:abc", layers=layers)
    assert artifact.layers_in_floats(tmp_path) == told


@pytest.mark.parametrize("name", ["model.onnx", "plan.yaml", "readings.json"])
def test_an_altered_file_is_named_with_both_digests(name: str, tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / name
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedArtifact) as error:
        artifact.verify_files(tmp_path)
    assert name in str(error.value)
    assert expected in str(error.value)
    assert hashlib.sha256(data).hexdigest() in str(error.value)
    with pytest.raises(DamagedArtifact):
        artifact.open_artifact(tmp_path)
    with pytest.raises(DamagedArtifact):
        artifact.record(tmp_path, READINGS)


def test_missing_and_added_files_are_all_named(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "plan.yaml").unlink()
    (tmp_path / "weights.pkl").write_bytes(b"")
    with pytest.raises(DamagedArtifact, match=r"(?s)weights\.pkl: .*does not know.*plan\.yaml: .*no such file"):
        artifact.verify_files(tmp_path)


def test_a_folder_where_a_file_should_be_is_named(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "model.onnx").unlink()
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(DamagedArtifact, match=r"model\.onnx"):
        artifact.verify_files(tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "no such file"),
        ("{", "expected JSON"),
        ("[]", "found 'list'"),
        ('{"format": 2}', "format 1, found 2"),
        ('{"format": 1}', "expected digests"),
        ('{"format": 1, "files": {"model.onnx": "0", "plan.yaml": "0", "readings.json": "0"}}', "expected seed"),
    ],
)
def test_a_broken_manifest_is_explained(text: str | None, match: str, tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "manifest.json").unlink()
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DamagedArtifact, match=match):
        artifact.verify_files(tmp_path)


def test_a_manifest_longer_than_any_of_ours_is_refused_unread(tmp_path: Path) -> None:
    written(tmp_path / "a")
    for name, read in (("manifest.json", artifact.verify_files), ("readings.json", artifact.read_readings)):
        with (tmp_path / "a" / name).open("r+b") as file:
            file.truncate(2**38)
        with pytest.raises(DamagedArtifact, match=rf"{name}:1: expected JSON, found more than 67108864 bytes"):
            read(tmp_path / "a")


def test_the_manifest_names_libraries_and_no_time(tmp_path: Path) -> None:
    written(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert set(manifest) == {"format", "files", "seed", "data", "versions"}
    assert {"onnx", "onnxruntime", "torch", "paretta"} <= set(manifest["versions"])


def test_opening_and_verifying_need_no_heavy_library(tmp_path: Path) -> None:
    written(tmp_path)
    code = (
        "import sys; from pathlib import Path; from paretta.pipelines import artifact\n"
        "artifact.verify_files(Path(sys.argv[1])); artifact.open_artifact(Path(sys.argv[1]))\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'onnxscript', 'ray', 'mlflow', 'pandas'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
