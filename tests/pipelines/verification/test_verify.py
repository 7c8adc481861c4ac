"""Verification confirms readings that hold, and reports both numbers of those that do not."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from paretta.pipelines import artifact
from paretta.pipelines.coding.container import encode_model
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.loading.digests import data_digest
from paretta.pipelines.task import Metric, Task
from paretta.pipelines.verification.verify import ISOLATED_CHECK, Finding, require_verified, verify_claims
from paretta.search_spaces.errors import TrialFailed
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.space.plan import Plan


class Sign(nn.Module):
    """Answers class 1 exactly where the first input is positive."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.cat([-values[:, :1], values[:, :1]], dim=1)


def split(num_right: int, num: int) -> TensorDataset:
    inputs = torch.linspace(-1, 1, num * 2).reshape(num, 2)
    answers = (inputs[:, 0] > 0).long()
    answers[num_right:] = 1 - answers[num_right:]
    return TensorDataset(inputs, answers)


@pytest.fixture
def task() -> Task:
    return Task(
        model=Sign,
        train=split(4, 4),
        validation=split(3, 4),
        test=split(270, 300),
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": Metric(lambda outputs, targets: (outputs.argmax(1) == targets).float())},
        example_input=torch.zeros(1, 2),
    )


def delivered(folder: Path, task: Task, **claims: float) -> Path:
    model = to_bytes(Sign(), task.example_input)
    # what is true by hand: 3 of 4 and 270 of 300 samples, and the bytes that were written
    true = {"size": float(len(model)), "accuracy": 3 / 4, "test_accuracy": 0.9, "latency": 0.5} | claims
    units = {"size": "B", "latency": "ratio"}
    readings = {name: Reading(value, units.get(name, "share"), num_samples=4) for name, value in true.items()}
    artifact.write(folder, model, plan=Plan(), seed=0, data_digest=data_digest(task), readings=readings)
    return folder


def outcomes(findings: tuple[Finding, ...]) -> dict[str, str]:
    return {finding.name: finding.outcome for finding in findings}


def test_claims_that_hold_are_confirmed_and_what_cannot_be_repeated_is_said(task: Task, tmp_path: Path) -> None:
    findings = verify_claims(delivered(tmp_path / "a", task), task)
    assert outcomes(findings) == {
        "manifest": "confirmed",
        "size": "confirmed",
        "accuracy": "confirmed",
        "test_accuracy": "confirmed",
        "latency": "not checked",
    }
    require_verified(tmp_path / "a", task, ["size", "accuracy"])


@pytest.mark.parametrize(("claim", "numbers"), [("accuracy", ("1.0", "0.75")), ("size", ("1.0",))])
def test_a_claim_that_does_not_hold_fails_with_both_numbers(
    task: Task, tmp_path: Path, claim: str, numbers: tuple[str, ...]
) -> None:
    folder = delivered(tmp_path / "a", task, **{claim: 1.0})
    real = str(float((folder / "model.onnx").stat().st_size))
    with pytest.raises(TrialFailed) as caught:
        require_verified(folder, task, ["accuracy", "size"])
    assert all(number in caught.value.reason for number in (*numbers, *([real] if claim == "size" else [])))


def test_a_coded_size_is_coded_again_elsewhere(task: Task, tmp_path: Path) -> None:
    model = to_bytes(Sign(), task.example_input)
    true, wrong = float(len(encode_model(model).content)), 3.0
    for name, claim, outcome in (("a", true, "confirmed"), ("b", wrong, "mismatch")):
        folder = delivered(tmp_path / name, task, coded_size=claim)
        assert outcomes(verify_claims(folder, None, elsewhere=True))["coded_size"] == outcome
        assert outcomes(verify_claims(folder, None))["coded_size"] == "not checked"


def test_a_missing_claim_fails(task: Task, tmp_path: Path) -> None:
    with pytest.raises(TrialFailed, match="no claim of recall"):
        require_verified(delivered(tmp_path / "a", task), task, ["recall"])


def test_a_changed_model_is_named_and_never_run(task: Task, tmp_path: Path) -> None:
    folder = delivered(tmp_path / "a", task)
    (folder / "model.onnx").write_bytes(b"not a model")
    (finding,) = verify_claims(folder, task)
    assert (finding.name, finding.outcome) == ("manifest", "mismatch")
    assert "model.onnx: expected sha256" in finding.words


@pytest.mark.parametrize("content", ["", "[]", '{"files": 3}', '{"files": {}}'])
def test_a_manifest_that_says_nothing_is_a_mismatch(task: Task, tmp_path: Path, content: str) -> None:
    folder = delivered(tmp_path / "a", task)
    (folder / "manifest.json").write_text(content)
    (finding,) = verify_claims(folder, task)
    assert finding.outcome == "mismatch"


def test_a_model_that_does_not_run_fails(task: Task, tmp_path: Path) -> None:
    folder = delivered(tmp_path / "a", task)
    plan, digest = Plan(), data_digest(task)
    artifact.write(
        folder, b"not a model", plan=plan, seed=0, data_digest=digest, readings={"accuracy": Reading(1, "x")}
    )
    with pytest.raises(TrialFailed, match="does not run"):
        verify_claims(folder, task)


def test_other_data_leaves_accuracy_unchecked(task: Task, tmp_path: Path) -> None:
    folder = delivered(tmp_path / "a", task)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "data": "tensors:other"}))
    found = verify_claims(folder, task)
    assert outcomes(found)["accuracy"] == "not checked"
    assert outcomes(found)["size"] == "confirmed"
    assert "tensors:other" in next(str(finding) for finding in found if finding.name == "accuracy")


def test_without_a_task_the_reason_is_said(task: Task, tmp_path: Path) -> None:
    found = verify_claims(delivered(tmp_path / "a", task), None, without="because")
    assert outcomes(found)["accuracy"] == "not checked"
    assert any("because" in str(finding) for finding in found)


def test_the_card_of_a_pulled_folder_may_be_edited(task: Task, tmp_path: Path) -> None:
    folder = delivered(tmp_path / "a", task, accuracy=0.25)
    (folder / "README.md").write_text("my own words")
    assert outcomes(verify_claims(folder, task, elsewhere=True))["manifest"] == "confirmed"
    (folder / "notes.md").write_text("not delivered")
    assert outcomes(verify_claims(folder, task, elsewhere=True))["manifest"] == "mismatch"


def test_elsewhere_one_sample_may_flip_and_no_more(task: Task, tmp_path: Path) -> None:
    folder = delivered(tmp_path / "a", task, accuracy=0.5)  # one of four samples off
    assert outcomes(verify_claims(folder, task))["accuracy"] == "mismatch"
    assert outcomes(verify_claims(folder, task, elsewhere=True))["accuracy"] == "confirmed"
    folder = delivered(tmp_path / "b", task, accuracy=0.25)
    assert outcomes(verify_claims(folder, task, elsewhere=True))["accuracy"] == "mismatch"


def test_the_answering_process_imports_only_the_runtime_and_the_standard_library() -> None:
    tree = ast.parse(ISOLATED_CHECK.read_text(encoding="utf-8"))
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    origins = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {*imports, *origins} <= {*sys.stdlib_module_names, "numpy", "onnxruntime"}


def test_the_answering_process_cannot_import_from_its_own_folder(tmp_path: Path) -> None:
    request = tmp_path / "r.json"
    (tmp_path / "a").mkdir()
    request.write_text(json.dumps({"folder": str(tmp_path / "a"), "runs": [], "report": str(tmp_path / "out.json")}))
    run = f"runpy.run_path({str(ISOLATED_CHECK)!r}, run_name='__main__')"
    code = f"import runpy, sys; sys.argv = ['w', {str(request)!r}]; {run}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code + "; print(sys.path)"], capture_output=True, text=True, check=True
    )
    assert str(ISOLATED_CHECK.parent) not in ast.literal_eval(done.stdout)
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["foreign"] == []
    assert report["faults"][0].startswith("manifest.json cannot be read")
