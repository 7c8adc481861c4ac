"""A delivered file answers as many samples at once as its outputs leave room for."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.measuring import artifact_answers
from paretta.pipelines.measuring.artifact_answers import RUN_BATCH, judged, run_batch
from paretta.pipelines.tasks.digits import make


def test_small_outputs_are_answered_in_large_batches_and_large_ones_in_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make(width=4, hidden=8)
    assert run_batch(task) == RUN_BATCH
    model = task.new_model().eval()
    (tmp_path / "model.onnx").write_bytes(to_bytes(model, task.example_input))
    whole = judged(tmp_path, task, "validation", ["accuracy"])["accuracy"]
    monkeypatch.setattr(artifact_answers, "ANSWER_BYTES", 7 * 10 * 4)  # seven samples of ten floats
    again, before = replace(task), torch.get_rng_state()
    assert run_batch(again) == 7
    torch.testing.assert_close(torch.get_rng_state(), before)
    parts = judged(tmp_path, again, "validation", ["accuracy"])["accuracy"]
    assert not isinstance(whole, str)
    assert not isinstance(parts, str)
    assert parts.value == whole.value


def test_one_sample_is_answered_whatever_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact_answers, "ANSWER_BYTES", 1)
    assert run_batch(make(width=4, hidden=8)) == 1
