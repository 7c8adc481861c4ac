"""Causal language models: which token comes next."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from paretta.pipelines.integrations.transformers.cached_decoder import (
    CachedDecoder,
    cached,
    cached_axes,
    cached_example,
    empty_cache_for,
)
from paretta.pipelines.integrations.transformers.encoded_text import TextEncoder, TextRows, column
from paretta.pipelines.integrations.transformers.label_scores import IGNORED, label_loss
from paretta.pipelines.integrations.transformers.prepared_model import (
    ModelSource,
    instance,
    prepared,
    pretrained_files,
    processor_for,
)
from paretta.pipelines.losses.perplexity import perplexity
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import Problem, WrongInput


class TokenBlocks(Dataset[dict[str, Tensor]]):
    """Blocks of a long text: ``input_ids``, ``attention_mask`` and, as ``labels``, the token that follows each."""

    def __init__(self, tokens: Tensor, length: int) -> None:
        """Take tokens [t]; what is left of the last block is dropped."""
        count = (len(tokens) - 1) // length
        self.inputs = tokens[: count * length].view(count, length)
        self.labels = tokens[1 : count * length + 1].view(count, length)

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one block."""
        ids = self.inputs[index]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": self.labels[index]}


def causal_lm(
    model: ModelSource,
    tokenizer: Any = None,
    *,
    train: TextRows,
    validation: TextRows,
    test: TextRows,
    text: str = "text",
    length: int = 128,
    cache: bool = False,
    metrics: Mapping[str, Metric] | None = None,
) -> Task:
    """Return the task of predicting each next token of a text.

    The texts of a split are joined, with the tokenizer's end-of-text token between, and cut into blocks.

    Args:
        model: a folder that ``save_pretrained`` wrote, a model such as ``LlamaForCausalLM``, or a function that returns
            one without training.
        tokenizer: a tokenizer of transformers or its folder; by default that of the model's folder.
        train: rows, each a mapping with a text: a list, or a Hugging Face dataset.
        validation: rows on which candidates are compared.
        test: rows that are read only once, for the selected models.
        text: the column with the text.
        length: tokens of a block.
        cache: whether the delivered file takes and returns the keys and values of earlier tokens, for generating text;
            otherwise it only scores whole texts. See `CachedDecoder`.
        metrics: see `Task`; by default ``perplexity``.

    Raises:
        WrongInput: a part is missing or does not fit the others, or a split is shorter than one block.
    """
    made = prepared(model, "AutoModelForCausalLM")
    example = instance(made)
    encoder = TextEncoder(
        processor_for(tokenizer, model, "AutoTokenizer", "tokenizer"), example, length, length_name="length"
    )
    given = {"train": train, "validation": validation, "test": test}
    blocks = {name: _blocks(rows, name, text, encoder) for name, rows in given.items()}
    task_of = partial(
        Task,
        train=blocks["train"],
        validation=blocks["validation"],
        test=blocks["test"],
        loss=label_loss,
        metrics=metrics or {"perplexity": perplexity(ignore_label=IGNORED)},
        class_axis=-1,
    )
    if cache:
        return _with_cache(task_of, made, encoder, blocks["train"])
    inputs = [name for name in encoder.names if name in {"input_ids", "attention_mask"}]
    first = blocks["train"][0]
    return task_of(
        model=made,
        example_input={name: first[name][None] for name in inputs},
        free_axes={name: {1: "tokens"} for name in inputs},
        files=pretrained_files(example, encoder.tokenizer),
    )


def _with_cache(
    task_of: Callable[..., Task],
    made: nn.Module | Callable[[], nn.Module],
    encoder: TextEncoder,
    train: TokenBlocks,
) -> Task:
    model = cached(made)
    decoder: CachedDecoder = instance(model)
    first = train[0]["input_ids"][None]
    empty = empty_cache_for(decoder.decoder, first)
    return task_of(
        model=model,
        example_input=cached_example(decoder, first, empty),
        collate=empty,
        free_axes=cached_axes(empty),
        files=pretrained_files(decoder.decoder, encoder.tokenizer),
    )


def _blocks(rows: TextRows, split: str, text: str, encoder: TextEncoder) -> TokenBlocks:
    between = encoder.tokenizer.eos_token_id
    found: list[int] = []
    for ids in _token_ids(column([rows[index] for index in range(len(rows))], text), encoder.tokenizer):
        found += [*ids, *([] if between is None else [between])]
    blocks = TokenBlocks(torch.tensor(found, dtype=torch.int64), encoder.max_length)
    if not len(blocks):
        rule = f"must have more than {encoder.max_length} tokens, one block"
        read = ", which calibration reads even if nothing is trained" if split == "train" else ""
        raise WrongInput(Problem(split, rule, len(found), f"give more text{read}, or a smaller length"))
    return blocks


def _token_ids(texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    if not texts:
        return []  # which the tokenizer of transformers fails on
    found: list[list[int]] = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return found
