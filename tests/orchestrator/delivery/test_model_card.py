"""The card of a pulled folder says what is known of the model, and its code runs."""

import io
import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from paretta.dashboards.server.model_server import example_request
from paretta.orchestrator.delivery.model_card import Provenance, model_card, write_card
from paretta.pipelines.artifact import open_artifact, record, verify_files, write
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial
from paretta.search_spaces.space.plan import Plan

PLAN = Plan(({"kind": "train", "epochs": 2},), ({"kind": "quantize", "bits": 4},))
CPU = {"machine": "node-3", "cpu": "AMD EPYC", "seconds": 0.00001}
TESTED = {"accuracy": Reading(0.85, "share", low=0.75, high=0.95, num_samples=100)}
READINGS = {
    "size": Reading(1234.0, "B"),
    "latency": Reading(0.5, "ratio", low=0.49, high=0.51, num_samples=20, details={**CPU, "contended": True}),
    "accuracy": Reading(0.9, "share", low=0.8, high=1.0, num_samples=360),
}
LAYERS: Document = {
    "fc": {
        "shape": [3, 2],
        "bits": 4,
        "sparsity": 0.25,
        "in_floats": None,
        "asked": 4,
        "stored": 4.5,
        "kernel": "QGemm",
    },
    "gru": {"shape": [9, 2], "bits": 32, "sparsity": 0.0, "in_floats": "GRU layers have no integer form here"},
}
OBJECTIVES = (
    Objective("size", "min", "B"),
    Objective("latency", "min", "ratio"),
    Objective("accuracy", "max", "share"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    value = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 2])
    result = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph([helper.make_node("Neg", ["pixels"], ["scores"])], "g", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    sample = io.BytesIO()
    np.savez(sample, pixels=np.array([[0.1, -2.0]], np.float32))
    write(
        tmp_path / "best",
        model,
        plan=PLAN,
        seed=7,
        data_digest="tensors:abc",
        readings={**READINGS, **{f"test_{name}": reading for name, reading in TESTED.items()}},
        layers=LAYERS,
        origin={"task": {"use": "./mytask.py:make", "options": {}}, "workers": 1},
        notes=[{"stage": "quantize", "reason": "stays in float: no integer form", "layers": ["gru"]}],
        sample=sample.getvalue(),
        files={"preprocessor.json": b"{}"},
    )
    return tmp_path / "best"


def origin() -> Provenance:
    trial = Trial("0004-abc", 4, PLAN, 7, "complete", words="quantize to 4 bits", readings=READINGS)
    trial = trial.with_test_readings(TESTED)
    before = {**READINGS, "size": Reading(9000.0, "B")}
    baseline = Trial("baseline", 0, Plan(()), 7, "complete", role="baseline", readings=before)
    return Provenance(trial, Front.of([baseline, trial], OBJECTIVES, "digits"))


def test_the_card_has_each_number_with_its_interval_beside_the_baseline(folder: Path) -> None:
    card = model_card(open_artifact(folder), origin())
    assert "# digits 0004-abc\n" in card
    assert "made by: quantize to 4 bits. It is knee, smallest" in card
    assert "| size | 1.23 kB | 9 kB |" in card
    assert "| latency | 0.500x [0.490x, 0.510x], 10 µs |" in card
    assert "| accuracy (test) | 85.00 % [75.00 %, 95.00 %] |  |" in card


def test_the_card_says_what_its_numbers_do_not(folder: Path) -> None:
    card = model_card(open_artifact(folder), origin())
    assert "- latency was measured on node-3, AMD EPYC; on other processors it is another number." in card
    assert "- latency was read while other work disturbed the machine." in card
    assert "- Validation samples: accuracy of 360; the search chose by them" in card
    assert "- gru stays in float: no integer form." in card
    assert "test_accuracy" not in card
    assert "not read for this trial" not in card
    record(folder, READINGS)
    unread = replace(origin().trial, test_readings={})
    assert "The test split was not read for this trial" in model_card(
        open_artifact(folder), Provenance(unread, origin().front)
    )


def test_the_card_has_each_layer_and_what_the_input_is(folder: Path) -> None:
    card = model_card(open_artifact(folder))
    assert "| `fc` | [3, 2] | 4 | 4.5 | 25.0 % | integers (QGemm) |" in card
    assert "| `gru` | [9, 2] | 32 |  | 0.0 % | floats: GRU layers have no integer form here |" in card
    assert "| input | `pixels` | float | [batch, 2] |" in card
    assert "`./mytask.py:make` gives; its files beside the model" in card
    assert "[`preprocessor.json`](preprocessor.json)" in card


def test_the_cards_code_loads_and_runs_the_model(folder: Path) -> None:
    write_card(folder)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 5
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "[array([[-0.1,  2. ]], dtype=float32)]\n"


def test_the_card_is_for_people_to_go_on_with(folder: Path) -> None:
    before = verify_files(folder)
    write_card(folder)
    (folder / "README.md").write_text("my own words")
    assert verify_files(folder) == before


def test_a_request_that_can_be_pasted(folder: Path, tmp_path: Path) -> None:
    command = shlex.split(example_request(folder, "http://127.0.0.1:1", tmp_path))
    assert command[-1] == "http://127.0.0.1:1/invocations"
    assert json.loads(command[command.index("-d") + 1]) == {"inputs": {"pixels": [[0.1, -2.0]]}}
    np.savez(folder / "sample.npz", pixels=np.ones((1, 2000), np.float32))
    long = shlex.split(example_request(folder, "http://127.0.0.1:1", tmp_path))
    named = long[long.index("-d") + 1]
    assert json.loads(Path(named.removeprefix("@")).read_text())["inputs"]["pixels"] == [[1.0] * 2000]
