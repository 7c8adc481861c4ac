"""A decoder with a cache is delivered as one graph that answers token by token as the trained model does at once."""

import json
import re
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from small_transformers import gpt2, llama, splits, tokenizer, transformers

from paretta.integrations.transformers import causal_lm
from paretta.orchestrator.delivery.model_card import write_card
from paretta.pipelines.artifact import MODEL
from paretta.pipelines.bench import Bench
from paretta.pipelines.data.decoder_feeds import empty_cache, following
from paretta.pipelines.export.agreement import INTEGER_TOLERANCE
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.quantization.fake_quantize import is_quantized
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.pipelines.stage import stages_of
from paretta.pipelines.task import Task
from paretta.pipelines.verification.answering import answering
from paretta.pipelines.verification.cache_check import cache_agreement
from paretta.pipelines.verification.verify import verify_claims
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan

STAGES: dict[str, Any] = {
    "llama": [
        {"kind": "prune", "sparsity": {"*mlp.[gu]*": 0.25}},
        {"kind": "quantize", "bits": 4, "activation_bits": 32, "compute": "float"},
    ],
    "gpt2": [{"kind": "quantize", "bits": 7}],  # sums of 8 bits overflow in integer kernels of processors without VNNI
}
MODELS = {"llama": llama, "gpt2": gpt2}


def cached_task(name: str) -> Task:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return causal_lm(MODELS[name](), tokenizer(), length=12, cache=True, **splits())


@pytest.fixture(scope="module", params=MODELS)
def delivered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Any, Path]:
    """A task, its quantised model, and the folder delivered of it."""
    task, folder = cached_task(request.param), tmp_path_factory.mktemp(request.param) / "made"
    check_task(task)
    plan = Plan(stages=STAGES[request.param])
    run(plan, task, seed=0, ranks=Ranks.alone(), folder=folder)
    bench, model = Bench(task, Ranks.alone()), task.new_model()
    for stage in stages_of(plan):
        model = stage.apply(model, bench)
    return task, model.eval(), folder


def opened(folder: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])


def stepwise(session: onnxruntime.InferenceSession, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Any:
    """Return the logits [n, tokens, vocabulary] of `ids`, each token in a call of its own."""
    names = [output.name for output in session.get_outputs()]
    cache, found = empty_cache(session.get_inputs(), len(ids)), []
    for at in range(ids.shape[1]):
        feeds = {"input_ids": ids[:, at : at + 1], "attention_mask": mask[:, : at + 1], **cache}
        answers = dict(zip(names, session.run(None, feeds), strict=True))
        cache = following(answers)
        found.append(answers["logits"])
    return np.concatenate(found, axis=1)


def test_token_by_token_it_answers_as_the_quantised_model_does_for_the_whole_text(
    delivered: tuple[Task, Any, Path],
) -> None:
    task, model, folder = delivered
    inputs, _ = task.batch(task.validation, torch.arange(3))
    with torch.no_grad():
        expected = model.decoder(input_ids=inputs["input_ids"], use_cache=False).logits.numpy()
    ids = inputs["input_ids"].numpy()
    found = stepwise(opened(folder), ids, np.ones_like(ids))
    tolerance = INTEGER_TOLERANCE if any(map(is_quantized, model.modules())) else 1e-5
    assert np.abs(expected - expected[:, :1]).max() > 10 * tolerance * np.abs(expected).max()  # the text matters
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_inputs_and_outputs_have_the_names_that_users_of_optimum_expect(delivered: tuple[Task, Any, Path]) -> None:
    _, _, folder = delivered
    session = opened(folder)
    assert [node.name for node in session.get_inputs()] == [
        "input_ids",
        "attention_mask",
        "past_key_values.0.key",
        "past_key_values.0.value",
    ]
    assert [node.name for node in session.get_outputs()] == ["logits", "present.0.key", "present.0.value"]
    assert json.loads((folder / "config.json").read_text())["use_cache"]


def test_padding_on_the_left_changes_nothing(delivered: tuple[Task, Any, Path]) -> None:
    task, model, folder = delivered
    ids = task.batch(task.validation, torch.arange(1))[0]["input_ids"].numpy()
    padded = np.concatenate([np.zeros((1, 3), np.int64), ids], axis=1)
    mask = (np.arange(padded.shape[1]) >= 3).astype(np.int64)[None]
    alone = stepwise(opened(folder), ids, np.ones_like(ids))
    beside = stepwise(opened(folder), np.concatenate([padded, padded]), np.concatenate([mask, mask]))
    tolerance = INTEGER_TOLERANCE if any(map(is_quantized, model.modules())) else 1e-5
    np.testing.assert_allclose(beside[1:, 3:], alone, rtol=0, atol=tolerance * np.abs(alone).max())


def test_verify_compares_the_cache_and_finds_a_file_that_ignores_it(
    delivered: tuple[Task, Any, Path], tmp_path: Path
) -> None:
    _, _, folder = delivered
    findings = {finding.name: finding for finding in verify_claims(folder, None)}
    assert findings["cache"].outcome == "confirmed"
    broken = Path(copytree(folder, tmp_path / "broken"))
    model = onnx.load(broken / MODEL)
    for node in model.graph.node:
        node.input[:] = ["negated" if name == "past_key_values.0.value" else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Neg", ["past_key_values.0.value"], ["negated"]))
    onnx.save(model, broken / MODEL)
    found = cache_agreement(broken)
    assert found is not None
    assert not found.holds


def test_the_card_tells_how_to_generate_and_its_code_gives_the_most_probable_tokens(
    delivered: tuple[Task, Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _, folder = delivered
    write_card(folder)
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    code = next(block for block in blocks if "def generate" in block)
    assert len([line for line in code.splitlines() if line.strip()]) <= 16
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(compile(code, "card", "exec"), names)
    prompt = task.batch(task.validation, torch.arange(1))[0]["input_ids"][0, :4].tolist()
    found, ids = names["generate"](prompt, 5), list(prompt)
    session = opened(folder)
    for _ in range(5):
        logits = stepwise(session, np.array([ids]), np.ones((1, len(ids)), np.int64))
        ids.append(int(logits[0, -1].argmax()))
    assert found == ids


def test_a_request_without_a_cache_is_answered_without_one(delivered: tuple[Task, Any, Path]) -> None:
    _, _, folder = delivered
    answer = answering(folder)
    ids = [[4, 5, 6], [7, 8, 9]]
    whole = answer({"inputs": {"input_ids": ids, "attention_mask": [[1, 1, 1], [1, 1, 1]]}})
    assert list(whole["predictions"]) == ["logits"]
    logits = stepwise(opened(folder), np.array(ids), np.ones((2, 3), np.int64))
    np.testing.assert_allclose(whole["predictions"]["logits"], logits, atol=0.1 * np.abs(logits).max())
    with pytest.raises(ValueError, match=r"past_key_values\.0\.value"):
        answer({"inputs": {"input_ids": ids, "past_key_values.0.key": []}})


def test_a_model_that_keeps_only_a_window_of_tokens_is_told() -> None:
    config = transformers.MistralConfig(
        vocab_size=19,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        max_position_embeddings=32,
        sliding_window=4,
    )
    with pytest.raises(WrongInput, match="MistralForCausalLM with DynamicSlidingWindowLayer'; leave out cache=True"):
        causal_lm(transformers.MistralForCausalLM(config), tokenizer(), length=8, cache=True, **splits())
