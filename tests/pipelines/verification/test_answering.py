"""Requests that a delivered model cannot answer rightly are refused with one line."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from paretta.pipelines import artifact
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.verification.answering import answering
from paretta.search_spaces.space.plan import Plan


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("served")
    artifact.write(made, to_bytes(nn.Linear(2, 1).eval(), torch.zeros(1, 2)), plan=Plan(), seed=0, data_digest="")
    return made


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "1e39"])
def test_numbers_that_are_not_finite_are_refused(folder: Path, number: str) -> None:
    answer = answering(folder)
    assert answer(json.loads('{"inputs": [[1.0, 2.0]]}'))
    with pytest.raises(ValueError, match="input: expected finite numbers, found nan, infinity or one beyond float32"):
        answer(json.loads(f'{{"inputs": [[1.0, {number}]]}}'))


def test_lists_nested_too_deeply_are_refused(folder: Path) -> None:
    nested: list[object] = []
    for _ in range(500):
        nested = [nested]
    with pytest.raises(ValueError, match="input: expected nested lists of float32"):
        answering(folder)({"inputs": nested})
