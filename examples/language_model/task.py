"""Which piece of a word comes next? A small Llama that is trained on a novel, with a tokenizer made from it."""

import json
import tarfile
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from paretta import Task
from paretta.integrations.transformers import causal_lm

END = "<end>"
CHAPTERS = 135
LENGTH = 128  # tokens of a block


def make(folder: str = "data", vocabulary: int = 1024, width: int = 96, layers: int = 3) -> Task:
    """Return the task; of ten chapters eight are to train on, one for validation and one for the test.

    Args:
        folder: with the novel, relative to this file, as ``fetch.py`` makes it.
        vocabulary: number of tokens.
        width: of the model's states, a multiple of 8.
        layers: of the model.
    """
    chapters = _chapters(Path(__file__).parent / folder)
    train = [text for place, text in enumerate(chapters) if place % 10 < 8]
    tokenizer = _tokenizer(train, vocabulary)

    def model() -> LlamaForCausalLM:
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=4,
                num_key_value_heads=2,
                intermediate_size=3 * width,
                max_position_embeddings=2 * LENGTH,
                bos_token_id=tokenizer.eos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                tie_word_embeddings=False,  # a shared table would stay in floats
            )
        )

    parts = [[{"text": text} for text in part] for part in (train, chapters[8::10], chapters[9::10])]
    return causal_lm(model, tokenizer, train=parts[0], validation=parts[1], test=parts[2], length=LENGTH)


def _chapters(folder: Path) -> list[str]:
    try:
        archive = next(folder.glob("*.tgz"))
    except StopIteration:
        raise FileNotFoundError(f"no novel in {folder}; run: python {Path(__file__).with_name('fetch.py')}") from None
    with tarfile.open(archive) as packed:
        files = [packed.extractfile(f"package/data/chapter_{number}.json") for number in range(1, CHAPTERS + 1)]
        return [json.load(file)["text"] for file in files if file is not None]


def _tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are the frequent pieces of `texts` (byte pair encoding)."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False),
    )
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=END, model_input_names=names)
