"""Small models of transformers made from a config, a tokenizer of few words, and rows of text and images for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paretta.integrations.transformers import (
    causal_lm,
    image_classification,
    sentence_encoder,
    sequence_classification,
    token_classification,
)
from paretta.pipelines.task import Task

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
WORDS = ["the", "a", "cat", "dog", "bird", "sat", "ran", "flew", "on", "under", "mat", "tree", "good", "bad", "not"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
NUM_WORDS = len(SPECIAL) + len(WORDS)
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def tokenizer(**settings: object) -> Any:
    """A tokenizer of words; texts of encoders stand between two marks."""
    known = {word: at for at, word in enumerate([*SPECIAL, *WORDS])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="[SEP]", model_input_names=names, **marks | settings
    )


def texts(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows with a text, whether it speaks of a cat, its words, and of each word its place in the list modulo 3."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        length = int(torch.randint(3, 9, (), generator=generator))
        ids = torch.randint(0, len(WORDS), (length,), generator=generator).tolist()
        words = [WORDS[word] for word in ids]
        rows.append(
            {
                "text": " ".join(words),
                "label": int("cat" in words),
                "tokens": words,
                "labels": [word % 3 for word in ids],
            }
        )
    return rows


def splits() -> dict[str, list[dict[str, Any]]]:
    return {"train": texts(64, 0), "validation": texts(32, 1), "test": texts(32, 2)}


def images() -> dict[str, list[dict[str, Any]]]:
    draw = np.random.default_rng(0)
    return {
        name: [
            {"image": draw.integers(0, 255, (20, 20, 3), dtype=np.uint8), "label": number % 3} for number in range(16)
        ]
        for name in ("train", "validation", "test")
    }


def bert(kind: str = "ForSequenceClassification", **settings: Any) -> nn.Module:
    shape = {"max_position_embeddings": 32, **SMALL, **settings}
    config = transformers.BertConfig(vocab_size=NUM_WORDS, **shape)
    return getattr(transformers, f"Bert{kind}")(config)


def gpt2(vocab_size: int = NUM_WORDS) -> nn.Module:
    marks = {"bos_token_id": 3, "eos_token_id": 3}
    config = transformers.GPT2Config(vocab_size=vocab_size, n_embd=16, n_layer=1, n_head=2, n_positions=32, **marks)
    return transformers.GPT2LMHeadModel(config)


def llama() -> nn.Module:
    """Rotary positions, half as many keys as queries, an embedding that is the last layer too."""
    config = transformers.LlamaConfig(
        vocab_size=NUM_WORDS,
        max_position_embeddings=32,
        tie_word_embeddings=True,
        pad_token_id=0,
        **SMALL | {"num_attention_heads": 4, "num_key_value_heads": 2},
    )
    return transformers.LlamaForCausalLM(config)


def vit() -> nn.Module:
    config = transformers.ViTConfig(image_size=16, patch_size=4, num_labels=3, **SMALL)
    return transformers.ViTForImageClassification(config)


def trained_encoder() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return bert("Model").eval()


TASKS: dict[str, Callable[[], Task]] = {
    "texts": lambda: sequence_classification(bert, tokenizer(), max_length=16, **splits()),
    "pairs": lambda: sequence_classification(bert, tokenizer(), text=("text", "text"), max_length=24, **splits()),
    "numbers": lambda: sequence_classification(lambda: bert(num_labels=1), tokenizer(), max_length=16, **splits()),
    "words": lambda: token_classification(
        lambda: bert("ForTokenClassification", num_labels=3), tokenizer(), max_length=16, **splits()
    ),
    "sentences": lambda: sentence_encoder(trained_encoder(), tokenizer(), max_length=16, **splits()),
    "gpt2": lambda: causal_lm(gpt2, tokenizer(), length=16, **splits()),
    "llama": lambda: causal_lm(llama, tokenizer(), length=16, **splits()),
    "images": lambda: image_classification(
        vit, transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}), **images()
    ),
}
