"""The files of the tutorial on a language model without training fit together, and its code generates."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_decoder import small_decoder
from small_transformers import llama, texts, tokenizer

from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.data.decoder_feeds import empty_cache
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.loading.load_task import load_task
from paretta.pipelines.meter import meter_of
from paretta.pipelines.stage import stages_of
from paretta.search_spaces.yaml_io import parse_yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorials" / "language-model-without-training.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_its_task_and_sweep_file_are_valid_for_a_folder_of_transformers(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "text").mkdir()
    for number in range(6):
        words = "\n".join(row["text"] for row in texts(16, number))
        (tmp_path / "text" / f"{number:03}.txt").write_text(words, encoding="utf-8")
    (tmp_path / "task.py").write_text(blocks("python")[0], encoding="utf-8")
    (text,) = blocks("yaml")
    sweep = Sweep.parse(parse_yaml(text, "sweep.yaml"), "sweep", tmp_path)
    task = load_task(sweep.config.task.use, {"length": 16}, tmp_path)
    check_task(task, trains=False)
    assert [meter_of(objective, task.metrics).unfit(task) for objective in sweep.config.objectives] == [
        None,
        "it reaches 129 positions, and the model has 32; ask for fewer",
        None,
    ]
    plans = list(sweep.space.corners())
    assert {stage.kind for plan in plans for stage in stages_of(plan)} == {"quantize"}


def test_its_generate_gives_the_most_probable_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = blocks("python")[1]
    (tmp_path / "language-model").mkdir()
    (tmp_path / "language-model" / "model.onnx").write_bytes(small_decoder().SerializeToString())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "tutorial", "exec"), names)
    found, ids = names["generate"]([1, 2, 3], 6), [1, 2, 3]
    session = names["session"]
    while len(ids) < 9:  # every token again at once, without a cache
        mask = np.ones((1, len(ids)), np.int64)
        (logits, *_) = session.run(
            None, {"input_ids": [ids], "attention_mask": mask, **empty_cache(session.get_inputs(), 1)}
        )
        ids.append(int(logits[0, -1].argmax()))
    assert found == ids
