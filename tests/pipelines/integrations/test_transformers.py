"""Models of transformers become tasks in one call, and every stage and the delivered folder fit what they were."""

import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import masking
import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from small_transformers import TASKS, bert, gpt2, llama, splits, texts, tokenizer, trained_encoder, transformers
from torch import nn

from paretta.integrations.transformers import (
    Perplexity,
    causal_lm,
    image_classification,
    sentence_encoder,
    sequence_classification,
    token_classification,
)
from paretta.pipelines.artifact import MODEL, verify_files
from paretta.pipelines.bench import Bench
from paretta.pipelines.data.trees import call_model, tensors
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.losses.metric_scores import scores_by
from paretta.pipelines.model.equivalence import compare_answers
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.pipelines.stages.prune import Prune
from paretta.pipelines.stages.quantize import Quantize
from paretta.pipelines.task import Task
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.space.plan import Plan


def indices(count: int) -> torch.Tensor:
    return torch.arange(count)


@pytest.mark.parametrize("name", TASKS)
def test_each_task_passes_the_check(name: str) -> None:
    check_task(TASKS[name]())


def test_a_model_of_conv1d_layers_answers_with_linear_ones_as_before() -> None:
    torch.manual_seed(0)
    whole = gpt2().eval()
    task = causal_lm(whole, tokenizer(), length=16, **splits())
    inputs, _ = task.batch(task.validation, indices(4))
    made = task.new_model()
    assert type(made.get_submodule("transformer.h.0.mlp.c_fc")) is nn.Linear
    assert type(whole.get_submodule("transformer.h.0.mlp.c_fc")).__name__ == "Conv1D"  # the given model is left alone
    torch.testing.assert_close(made(**inputs)["logits"], whole(**inputs).logits)


@pytest.mark.parametrize("name", ["texts", "words", "sentences", "gpt2", "llama", "images"])
def test_a_pruned_model_answers_as_the_whole_one_does_without_what_was_cut(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    norm = transformers.models.llama.modeling_llama.LlamaRMSNorm
    monkeypatch.setattr(masking, "NORMS", (*masking.NORMS, norm))
    task = TASKS[name]()
    whole = masking.distinct(task.new_model().eval())
    task = replace(task, model=whole)
    pruned = Prune(sparsity=0.5).apply(deepcopy(whole), Bench(task, Ranks.alone())).eval()
    count = sum(p.numel() for p in pruned.parameters()) / sum(p.numel() for p in whole.parameters())
    assert count < 0.7  # what an encoder answers keeps its width
    inputs, _ = task.batch(task.validation, indices(8))
    expected = masking.masked(whole, pruned)
    with torch.no_grad():
        compared = compare_answers(
            lambda batch: tensors(call_model(expected, batch)),
            lambda batch: [tensor.numpy() for tensor in tensors(call_model(pruned, batch))],
            [inputs],
            tolerance=1e-4,
        )
    assert compared.alike, compared.words()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_tied_embedding_is_kept_and_named(name: str) -> None:
    task = TASKS[name]()
    bench = Bench(task, Ranks.alone())
    Quantize(bits=8, calibration_samples=8).apply(task.new_model().eval(), bench)
    told = {layer: note.reason for note in bench.notes for layer in note.layers}
    assert "its weight is shared with another layer" in told["lm_head"]


@pytest.mark.parametrize("name", ["llama", "gpt2", "pairs"])
def test_a_delivered_folder_is_loaded_by_name(name: str, tmp_path: Path) -> None:
    task = TASKS[name]()
    train = {"kind": "train", "epochs": 1, "lr": 0.01, "batch_size": 16, "optimizer": "adam"}
    plan = Plan((train,), ({"kind": "prune", "sparsity": 0.25}, {"kind": "quantize", "bits": 8}))
    folder = tmp_path / "delivered"
    run(plan, task, seed=0, ranks=Ranks.alone(), folder=folder)
    verify_files(folder)
    config = transformers.AutoConfig.from_pretrained(str(folder))
    known = transformers.AutoTokenizer.from_pretrained(str(folder))
    assert config.architectures == [type(task.new_model()).__name__]
    assert config.use_cache is False
    text = ["the cat sat", "a dog ran under the tree"]
    feeds = known(text, text if name == "pairs" else None, padding=True, return_tensors="np")
    session = onnxruntime.InferenceSession(folder / MODEL)
    names = [given.name for given in session.get_inputs()]
    assert names == list(task.example_input)
    (logits,) = session.run(["logits"], {name: feeds[name].astype(np.int64) for name in names})
    assert logits.shape == ((2, 2) if name == "pairs" else (2, feeds["input_ids"].shape[1], config.vocab_size))
    assert np.isfinite(logits).all()


def test_only_first_tokens_of_words_have_labels() -> None:
    task = TASKS["words"]()
    first = splits()["train"][0]
    assert task.train[0]["labels"] == [-100, *first["labels"], -100]
    _, batch = task.batch(task.train, indices(8))
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()


def test_the_share_of_words_is_that_of_all_words_and_not_the_mean_over_texts() -> None:
    task = TASKS["words"]()
    labels = torch.tensor([[0, 1, 2, 1], [2, -100, -100, -100]])
    logits = F.one_hot(torch.tensor([[0, 1, 2, 0], [1, 1, 1, 1]]), 3).float()
    taker = scores_by(task.metrics["accuracy"], task, resamples=False)
    taker.update({"logits": logits}, {"labels": labels})
    assert taker.scored().value == pytest.approx(3 / 5)


@torch.no_grad()
def test_blocks_of_text_hold_what_follows_and_perplexity_is_that_of_the_model_itself() -> None:
    torch.manual_seed(0)
    model = llama().eval()
    task = causal_lm(model, tokenizer(), length=16, **splits())
    batch = task.batch(task.validation, indices(len(task.validation)))[1]
    assert torch.equal(batch["labels"][0, :-1], batch["input_ids"][0, 1:])
    assert torch.equal(batch["labels"][0, -1], batch["input_ids"][1, 0])
    outputs = task.new_model()(batch["input_ids"], batch["attention_mask"])
    taker = scores_by(task.metrics["perplexity"], task, resamples=False)
    taker.update(outputs, batch)
    whole = torch.cat([batch["input_ids"].flatten(), batch["labels"][-1, -1:]])
    blocks = [whole[at : at + 17][None] for at in range(0, len(whole) - 1, 16)]
    losses = [float(model(block, labels=block).loss) for block in blocks]  # transformers' own loss, shifted by itself
    assert taker.scored().value == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)


def test_embeddings_are_the_means_over_tokens_of_the_given_model() -> None:
    model = trained_encoder()
    task = sentence_encoder(model, tokenizer(), max_length=16, **splits())
    _, batch = task.batch(task.validation, indices(3))
    for row, given in zip(batch["reference"], splits()["validation"], strict=False):
        states = model(**tokenizer()(given["text"], return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(row, F.normalize(states.mean(0), dim=0))
    outputs = call_model(task.new_model(), task.batch(task.validation, indices(3))[0])
    assert list(outputs) == [
        "last_hidden_state",
        "sentence_embedding",
    ]  # as optimum and sentence-transformers call them
    assert task.loss(outputs, batch) < 1e-5
    other = splits() | {"test": texts(32, 7)}
    assert sentence_encoder(model, tokenizer(), max_length=16, **other).data_id != task.data_id


class NamesItsInputsOtherwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = bert().config

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return ids


def broken(call: Callable[..., Task], model: Any, processor: Any = None, **settings: Any) -> Callable[[], Task]:
    return lambda: call(model, processor, **splits() | settings)


BROKEN = {
    "tokenizer: there must be one for a model that does not come from a folder": broken(sequence_classification, bert),
    "model: cannot be loaded": broken(sequence_classification, "./no/such/folder"),
    "tokenizer: cannot be loaded": broken(sequence_classification, bert, "./no/such/folder"),
    "tokenizer: must be a tokenizer of transformers; got 'int'": broken(sequence_classification, bert, 3),
    "tokenizer: has no padding token": lambda: check(
        sequence_classification(bert, tokenizer(pad_token=None), max_length=16, **splits())
    ),
    "processor: there must be one": broken(image_classification, bert),
    "model: must be a model of transformers, with its config; got 'Linear'": broken(causal_lm, nn.Linear(2, 2)),
    "model: must be a folder, a model of transformers, or a function that returns one; got 'int'": broken(causal_lm, 3),
    "model: must be a trained encoder or its folder": broken(sentence_encoder, bert, tokenizer()),
    "forward must take 'input_ids', which input_ids, token_type_ids, attention_mask are offered with; got 'ids'": (
        lambda: sequence_classification(NamesItsInputsOtherwise(), tokenizer(), max_length=16, **splits())
    ),
    "max_length: must be from 2 to the 32 positions that the model knows; got 64": broken(
        sequence_classification, bert, tokenizer(), max_length=64
    ),
    "rows: must be mappings with 'sentence'; got 'text, label, tokens, labels'": broken(
        sequence_classification, bert, tokenizer(), max_length=16, text="sentence"
    ),
    "rows: must be mappings with 'text'; got 'tuple'": broken(
        sequence_classification, bert, tokenizer(), max_length=16, train=[("the cat", 1)]
    ),
    "rows['text']: must be one of the model's labels: LABEL_0, LABEL_1": lambda: sequence_classification(
        bert, tokenizer(), max_length=16, label="text", **splits()
    ),
    "test: must have more than 32 tokens, one block; got 4": broken(
        causal_lm, gpt2, tokenizer(), length=32, test=[{"text": "the cat sat"}]
    ),
    "length: must be from 2 to the 32 positions that the model knows; got 64": broken(
        causal_lm, gpt2, tokenizer(), length=64
    ),
    "tokenizer: its ids must be below 12, the tokens that the model knows; got \"'not' is 18\"; give the model's own": (
        broken(causal_lm, lambda: gpt2(vocab_size=12), tokenizer(), length=16)
    ),
    "train: must have more than 32 tokens, one block; got 0; give more text, which calibration reads even if": broken(
        causal_lm, gpt2, tokenizer(), length=32, train=[]
    ),
    "task.train[0]: class labels must be 0..1": lambda: check(
        token_classification(lambda: bert("ForTokenClassification"), tokenizer(), max_length=16, **splits())
    ),
}


def check(task: Task) -> Task:
    check_task(task)
    return task


@pytest.mark.parametrize("told", BROKEN)
def test_what_does_not_fit_is_told(told: str) -> None:
    with pytest.raises(WrongInput) as caught:
        BROKEN[told]()
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_is_told_and_not_given_one_of_no_words(tmp_path: Path) -> None:
    trained_encoder().save_pretrained(tmp_path)
    with pytest.raises(
        WrongInput, match=r"tokenizer: there must be one in the folder; .* a BertTokenizer of no words; got"
    ):
        sentence_encoder(tmp_path, **splits())


def test_without_the_library_it_is_told_how_to_install_it() -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from paretta.integrations.transformers import causal_lm\n"
        "from paretta import WrongInput\n"
        "try: causal_lm('folder', train=[], validation=[], test=[])\n"
        "except WrongInput as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "transformers: is not installed; pip install 'paretta[transformers]'"


def test_perplexity_without_tokens_is_no_number() -> None:
    assert np.isnan(Perplexity().compute())
