"""The examples of text are sound on their real data and, for sentences, on the real encoder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from paretta.pipelines.data.trees import call_model
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.training.evaluate import scores

pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
Example = Callable[[str], ModuleType]
Fetched = Callable[[str], Path]


def test_emails_are_token_ids_with_a_mask(example: Example, fetched: Fetched) -> None:
    task = example("spam").make(folder=str(fetched("spam")))
    check_task(task)
    labels = torch.cat([task.split(name).labels for name in ("train", "validation", "test")])
    assert (len(labels), int(labels.sum())) == (5875, 1773)  # of 6,046, those of other words; 1: spam


def test_an_encoder_knows_what_sentences_are_alike(example: Example, fetched: Fetched) -> None:
    sentences = example("sentences")
    task = sentences.make(folder=str(fetched("sentences")), train=16, validation=8)
    check_task(task)
    _, batch = task.batch(task.validation, torch.arange(8))
    given = {"sentence_embedding": batch["reference"]}
    cosines = task.metrics["cosine"].scores(given, batch)
    torch.testing.assert_close(cosines, torch.ones(8, dtype=torch.float64), rtol=0, atol=1e-6)
    texts = ["The battery dies within an hour.", "It runs out of power very soon.", "The senator lost the election."]
    encoded = task.collate([task.train.encode([{"text": text}])[0] for text in texts])
    with torch.no_grad():
        outputs = call_model(task.new_model(), {name: encoded[name] for name in task.example_input})
    first, alike, other = outputs["sentence_embedding"]
    assert first @ alike > 0.4 > first @ other


def test_a_novel_is_blocks_of_tokens_from_chapters_of_three_splits(example: Example, fetched: Fetched) -> None:
    task = example("language_model").make(folder=str(fetched("language_model")), vocabulary=300, width=16, layers=1)
    check_task(task)
    ids = torch.cat([task.train[place]["input_ids"] for place in range(2)])
    text = tokenizers.Tokenizer.from_str(task.files["tokenizer.json"].decode()).decode(ids.tolist())
    assert text.startswith("Call me Ishmael. Some years ago—never mind how long precisely—having little or no money")
    few = replace(task, validation=torch.utils.data.Subset(task.validation, range(4)))
    perplexity = scores(task.new_model(), few, Ranks.alone())["perplexity"]
    assert perplexity == pytest.approx(300, rel=0.1)  # to an untrained model all tokens are alike
